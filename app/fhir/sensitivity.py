"""Security labels in order and in families, frozen: HL7 v3 Confidentiality and sensitivities of ActCode.

The code systems' own hierarchy is not consulted at run time: a release of terminology must not change who
sees what.
"""

from typing import Final

LEVELS: Final = {"U": 1, "L": 2, "M": 3, "N": 4, "R": 5, "V": 6}
"""Confidentiality, a total order; 0 is unlabelled."""
UNLABELLED: Final = 0
NORMAL: Final = LEVELS["N"]
RESTRICTED: Final = LEVELS["R"]

UNKNOWN: Final = "UNKNOWN"
"""Stands among the sensitivities for a label that is not understood: it may mean anything."""

_SUBSTANCE = frozenset({"ETH", "SUD", "BH", "SPI"})
_BEHAVIOURAL = frozenset({"BH", "SPI"})

# ETH is not the parent of ETHUD in ActCode, but its definition covers alcohol and drugs alike, and IHE PCF split
# it into ETHUD and OPIOIDUD.
_WIDER: Final = {
    "BH": frozenset({"SPI"}),
    "COGN": _BEHAVIOURAL,
    "DVD": _BEHAVIOURAL,
    "EMOTDIS": _BEHAVIOURAL,
    "MH": _BEHAVIOURAL,
    "PSY": _BEHAVIOURAL,
    "PSYTHPN": _BEHAVIOURAL | {"PSY"},
    "SUD": _BEHAVIOURAL | {"ETH"},
    "ETHUD": _SUBSTANCE,
    "OPIOIDUD": _SUBSTANCE,
}
_OTHERS: Final = (
    "ADOL B CEL DEMO DIA DOB DRGIS EMP EMPL ETH GDIS GENDER HIV IDS LIVARG LOCIS MARST MST PATLOC PDS PHY "
    "PREGNANT PRS RACE REL SCA SDV SEX SICKLE SPI SSP STD TBOO VIO VIP"
)

SENSITIVITIES: Final = frozenset(_OTHERS.split()) | _WIDER.keys()
"""Every sensitivity of ActCode (InformationSensitivityPolicy of R4 and of HL7 Terminology 7)."""

_MARKS = (
    "AUDIT AUDTR CPLYCC CPLYCD CPLYJPP CPLYJSP CPLYOPP CPLYOSP CPLYPOL ENCRYPT ENCRYPTR ENCRYPTT ENCRYPTU LABEL "
    "MINEC NOAUTH NOLIST NOPERSISTP NORDSCLCD NORDSCLCDS NORDSCLW NORDSLCD NORELINK NOREUSE PERSISTLABEL "
    "PRIVMARK PROCESSINLINELABEL UPGRDLABEL"
)
MARKS: Final = frozenset(_MARKS.split())
"""Obligations and refrains that bind the recipient, or that this service keeps anyway.

MASK, REDACT, DEID, NODSCLCD and the like are not here: what cannot be honoured is a label not understood.
"""


def with_wider(sensitivity: str) -> frozenset[str]:
    """A sensitivity and everything it falls under: ETHUD is also ETH. Not the other way round."""
    return _WIDER.get(sensitivity, frozenset()) | {sensitivity}
