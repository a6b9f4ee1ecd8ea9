"""Which collectors share a helper: by configuration, by what the class says, and by what one has cost the others."""

from collectors.isolation import OWN, Isolation


def test_without_a_word_everybody_begins_alone_and_joins_whom_the_class_names() -> None:
    one = Isolation("disk", "")
    assert "own:disk" == one.group
    assert one.declared("shared")
    assert "shared" == one.group
    assert not one.declared("shared")


def test_configuration_goes_before_what_the_class_says() -> None:
    one = Isolation("disk", "drives")
    assert not one.declared("shared")
    assert "drives" == one.group
    alone = Isolation("disk", OWN)
    assert not alone.declared("shared")
    assert "own:disk" == alone.group


def test_who_costs_others_two_helpers_gets_one_alone_and_keeps_it() -> None:
    one = Isolation("disk", "")
    one.declared("shared")
    one.charge()
    assert "shared" == one.group
    one.charge()
    assert "own:disk" == one.group
    assert not one.declared("shared")


def test_a_configured_group_is_kept_whatever_it_costs() -> None:
    one = Isolation("disk", "drives")
    for _ in range(3):
        one.charge()
    assert "drives" == one.group
