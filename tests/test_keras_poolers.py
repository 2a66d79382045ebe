"""Poolers in Keras' own models."""

import pytest


@pytest.fixture
def ours(backend):
    """Our subpackage; skips where another is tested."""
    if backend.name != "keras":
        pytest.skip("of Keras alone")
    import finetuner.tuner.keras as ours

    return ours


def test_a_config_keeps_p_and_that_it_is_trained(ours, backend):
    pooler = ours.GeM(2.4, trainable=True)
    pooler.p.assign(5.5)
    pooler.trainable = False
    again = ours.GeM.from_config(pooler.get_config())
    assert again.arguments() == {"p": 5.5, "eps": 1e-6, "trainable": True}
    assert again.name == pooler.name
    assert len(again.trainable_variables) == 1
    fixed = ours.GeM(2.4)
    fixed.trainable = True  # as a model around it may say
    assert ours.GeM.from_config(fixed.get_config()).arguments() == fixed.arguments()
    assert not fixed.variables
