"""The service's own secrets, over both databases."""

from collections.abc import Callable

from storage.stores import Stores


def test_a_secret_is_made_once_and_is_the_same_for_every_process(
    stores: Stores, open_again: Callable[[], Stores]
) -> None:
    made = stores.secrets.get("sessions")
    assert len(made) == 32
    assert stores.secrets.get("sessions") == open_again().secrets.get("sessions") == made
    assert stores.secrets.get("forms") != made
