"""FHIR's two representations of a resource, each as the other (xml.html, json.html): JSON's text is the record.

What the two conversions promise:

* A number keeps the characters that it was written with, both ways: it is never a value in between.
* XML is written in the order of the definitions, as its schema wants it. Read, it may come in any order; members of
  the JSON are then in the document's, except that repetitions come together.
* A character that XML cannot carry (a control character, U+FFFE, U+FFFF) is written as U+FFFD: a note that has one is
  better read with a mark than not at all. Reading needs no such rule, since XML with one is not well-formed.
* A narrative's ``div`` is carried over as it stands, comments and line ends included; ``xml_narrative`` has the
  exceptions. All other comments and processing instructions end here.
* Neither judges more than it has to: what one representation can say as well as the other passes through, and
  ``validation`` judges it.

The parser is the standard library's expat: it resolves nothing by itself, refuses what a handler refuses (document type
declarations, so no entity is ever declared), knows line, column and byte, and adds no dependency. lxml resolves
entities unless told otherwise and has no byte positions; defusedxml is these same handlers over a slower tree.
"""

from app.fhir.xml_reading import from_xml
from app.fhir.xml_writing import to_xml

__all__ = ["from_xml", "to_xml"]
