"""What is judged of an item at the door."""

from __future__ import annotations

from producer.judging import judge


def test_an_id_with_a_nul_is_refused_and_a_text_with_one_is_not() -> None:
    # Given ids that PostgreSQL's text cannot hold, one among those that are looked at together and one for itself
    for other in ("b", "\u6708"):
        judged = judge([("oat", "a\0", "", None), ("r\0ye", other, "", None)], 100, with_ids=True)
        # Then they are refused, since no SQL would read any id beside them
        assert judged.problems == {0: "the id has a NUL character"}
        assert (judged.ids, judged.texts) == (["", other], [b"", b"r\0ye"])
