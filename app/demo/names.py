"""Names, places and ethnic categories of the demonstration's people; family and given names go together."""

from dataclasses import dataclass

from app.demo.catalogue import ETHNIC_CATEGORY, Code


@dataclass(frozen=True, slots=True)
class Heritage:
    """Names that are found in the same family. ``share`` is the part of the people, in any unit."""

    ethnicity: Code
    share: int
    families: tuple[str, ...]
    female: tuple[str, ...]
    male: tuple[str, ...]


def _heritage(code: str, display: str, share: int, families: str, female: str, male: str) -> Heritage:
    ethnicity = Code(ETHNIC_CATEGORY, code, display)
    return Heritage(ethnicity, share, tuple(families.split()), tuple(female.split()), tuple(male.split()))


HERITAGES = (
    _heritage(
        *("A", "White - British", 58),
        "Ashworth Barlow Bennett Carter Clarke Dawson Ellis Fletcher Gibson Hargreaves Holt Hughes Jackson "
        "Kershaw Lawson Marsh Naylor Parkinson Pearce Robson Shaw Stokes Taylor Thornton Walker Whitaker "
        "Evans Griffiths Llewellyn Price Cameron MacDonald O'Hara Smith-Jones",
        "Alison Amelia Barbara Catrin Charlotte Dorothy Eilidh Emily Fiona Freya Hannah Isla Jean Joanne "
        "Kathleen Laura Lily Margaret Megan Olivia Patricia Poppy Rebecca Siân Sophie Susan Zoë",
        "Alan Alfie Andrew Callum Christopher David Dylan Ewan George Harry Ian Jack James Keith Liam "
        "Martin Noah Oliver Paul Peter Rhys Robert Stephen Thomas William",
    ),
    _heritage(
        *("B", "White - Irish", 3),
        "Brennan Byrne Doyle Gallagher Kavanagh McCarthy Nolan O'Brien O'Sullivan",
        "Aoife Bridget Ciara Maeve Niamh Orla Róisín",
        "Cian Declan Eoin Fergus Padraig Seán",
    ),
    _heritage(
        *("C", "White - Any other White background", 8),
        "Kowalczyk Wójcik Nowak Mazur Popescu Ionescu Horváth Petrauskas Rossi Silva",
        "Agnieszka Katarzyna Małgorzata Ioana Elena Zsófia Rūta Giulia Inês",
        "Łukasz Piotr Tomasz Andrei Mihai László Jonas Marco João",
    ),
    _heritage(
        *("H", "Asian or Asian British - Indian", 7),
        "Patel Sharma Singh Kaur Desai Nair Iyer Reddy Chowdhury Gill",
        "Priya Anita Deepa Harpreet Kavita Meera Sunita Jasmin",
        "Arjun Rajesh Harjit Sanjay Vikram Anil Gurdeep Kiran",
    ),
    _heritage(
        *("J", "Asian or Asian British - Pakistani", 6),
        "Khan Ahmed Hussain Malik Iqbal Mahmood Akhtar Butt Qureshi",
        "Aisha Fatima Nadia Saima Zainab Rukhsana Maryam",
        "Imran Bilal Usman Tariq Yusuf Hamza Adnan",
    ),
    _heritage(
        *("K", "Asian or Asian British - Bangladeshi", 3),
        "Begum Rahman Miah Uddin Islam Chowdhury Hoque",
        "Nasima Sultana Rehana Tahmina Shirin",
        "Abdul Kamal Mizanur Shafiq Rafiq",
    ),
    _heritage(
        *("M", "Black or Black British - Caribbean", 4),
        "Campbell Grant Francis Joseph Marshall Thompson Bailey Gordon",
        "Beverley Shanice Marcia Yvonne Tanisha Gloria",
        "Winston Delroy Jermaine Curtis Leroy Marlon",
    ),
    _heritage(
        *("N", "Black or Black British - African", 6),
        "Okafor Adeyemi Mensah Boateng Abdi Osei Nwosu Kamau Tesfaye Mohamed",
        "Ngozi Amina Abena Hodan Chidinma Wanjiru Selam",
        "Emeka Kwame Yusuf Tunde Abdullahi Daniel Joseph",
    ),
    _heritage(
        *("R", "Other Ethnic Groups - Chinese", 2),
        "Chan Wong Li Chen Lau Cheung",
        "Mei-Ling Xiu Wai-Yin Jing Hui",
        "Wei Ka-Ho Jun Ming Hong",
    ),
    _heritage(
        *("G", "Mixed - Any other mixed background", 3),
        "Reid-Okoro Fernandes Rahimi Douglas Marchetti Baptiste",
        "Leila Maya Naomi Sofia Amara",
        "Elijah Kai Zachary Reuben Idris",
    ),
)

STREETS = (
    *("Alma Terrace", "Beck Lane", "Church Street", "Dale View", "Elm Grove", "Foundry Road"),
    *("Granary Court", "Highfield Avenue", "Ivy Close", "Jubilee Way", "Kiln Lane", "Lime Tree Walk"),
    *("Mill Hill", "North Parade", "Orchard Rise", "Priory Gardens", "Quarry Bank", "Rope Walk"),
)
TOWNS = (("Larkmere", "ZZ99 1"), ("Thornwick", "ZZ99 2"), ("Ashdale", "ZZ99 3"), ("Millbrook", "ZZ99 4"))
"""A town and the first part of its postcodes."""
