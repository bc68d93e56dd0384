"""What earlier formats of a store named in another way."""

import re
from collections.abc import Iterable, Mapping

_FOLDED = re.compile(r"(.*)@([0-9a-z]{23})")


def without_marks(
    vectors: Iterable[str], facts: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """How format 4 names folded vectors, which format 3 named `MEMBER@MARK`; and what it drops.

    The mark is the third word of the fact on the member, and a folded vector has a sum; what an
    interrupted fold had left over has neither. A name that may be damaged is not touched.
    """
    folded: dict[str, list[str]] = {}
    for vector in vectors:
        if found := _FOLDED.fullmatch(vector):
            folded.setdefault(found[1], []).append(vector)
    names, left_over = {}, []
    for member, of_member in folded.items():
        mark = facts.get(member, "").split(" ")[2:3]
        whole = [v for v in of_member if [v.rpartition("@")[2]] == mark or f"sum:{v}" in facts]
        if whole:
            names[max(whole)] = f"{member}@"
            left_over += [vector for vector in of_member if vector != max(whole)]
        elif mark == ["-"]:
            left_over += of_member
    return names, left_over
