"""Purposes of use and what lies beneath each, frozen from v3 ActReason (R4 and HL7 Terminology 7)."""

from typing import Final

from app.vocabulary import PurposeOfUse

_TREE = """
HMARKT
HOPERAT CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP HQUALIMP HSYSADMIN MEMADMIN
HOPERAT MILCDM MLTRAINING PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN
HSYSADMIN LABELING METAMGT
SYSDEV HTEST
HPAYMT CLMATTCH COVAUTH COVERAGE PMTDS REMITADV
COVERAGE ELIGDTRM ELIGVER ENROLLM MILDCRG
HRESCH BIORCH CLINTRCH DSRCH POARCH TRANSRCH
CLINTRCH CLINTRCHNPC CLINTRCHPC PRECLINTRCH
PATRQT FAMRQT PWATRNY SUPNWK
PUBHLTH DISASTER THREAT
TREAT CLINTRL COC ETREAT POPHLTH TREATDS
ETREAT BTG ERTREAT
"""
_PARENT: Final = {
    child: parent for parent, *children in map(str.split, _TREE.strip().splitlines()) for child in children
}

PURPOSES: Final = frozenset(_TREE.split())

_CAN_BE_STATED: Final = frozenset(PurposeOfUse)

PATIENT_SIDE: Final = frozenset({PurposeOfUse.PATRQT, PurposeOfUse.FAMRQT, PurposeOfUse.PWATRNY})
"""Purposes of the patient and of those who act for them."""


def purposes_of(purpose: PurposeOfUse, *, emergency: bool) -> frozenset[str]:
    """What a caller's one purpose counts as.

    Emergency treatment is treatment. Break-glass is so only with the reason that makes it an emergency: a permission
    for treatment must not silently permit it.
    """
    if purpose is PurposeOfUse.ETREAT:
        return frozenset({"ETREAT", "TREAT"})
    if purpose is PurposeOfUse.BTG and emergency:
        return frozenset({"BTG", "TREAT"})
    return frozenset({purpose.value})


def permit_covers(code: str, asked: frozenset[str]) -> bool:
    """A permission opens the purpose that it names, and none beneath it."""
    return code in asked


def denial_covers(code: str, asked: frozenset[str]) -> bool:
    """A denial closes its purpose and all beneath it.

    One that no caller can state (CLINTRCH) closes the next above it that one can (HRESCH): it may be meant.
    """
    stated = next((one for one in _upwards(code) if one in _CAN_BE_STATED), None)
    return any(stated in _upwards(one) for one in asked)


def _upwards(code: str) -> list[str]:
    found = [code]
    while (code := _PARENT.get(code, "")) != "":
        found.append(code)
    return found
