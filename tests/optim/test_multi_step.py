import pytest

from medvlp.optim.multi_step import DrawnEpochs, MultiStep


def test_the_rate_falls_with_the_first_step_of_an_epoch_and_as_published_with_the_second():
    right = MultiStep([1], num_epochs=2)
    published = MultiStep([1], num_epochs=2, compat="published")
    assert [right(step, 6) for step in range(6)] == [1, 1, 1, 0.1, 0.1, 0.1]
    assert [published(step, 6) for step in range(6)] == [1, 1, 1, 1, 0.1, 0.1]


def test_batches_need_not_divide_an_epoch():
    epochs = DrawnEpochs(samples_per_epoch=5, batch_size=2)
    assert [epochs.epoch_of(step) for step in range(6)] == [0, 0, 0, 1, 1, 2]
    assert epochs.num_steps(2) == 6
    assert [step for step in range(6) if epochs.saves(step, 1)] == [3, 5]
    assert [step for step in range(6) if epochs.saves(step, 2)] == [5]
    assert MultiStep([1], drawn=epochs)(3, 6) == 0.1


def test_a_run_that_goes_on_begins_as_published():
    epochs = DrawnEpochs(samples_per_epoch=4, batch_size=2, resume_epoch=2)
    assert (epochs.num_steps(4), epochs.epoch_of(0), epochs.saves(0, 1)) == (4, 2, False)
    schedule = MultiStep([1, 2], 0.5, drawn=epochs, compat="published")
    assert [schedule(step, 4) for step in range(3)] == [1.0, 0.25, 0.25]
    assert MultiStep([3], 0.5, drawn=epochs, compat="published")(0, 4) == 0.5


def test_epochs_that_cannot_be_counted():
    with pytest.raises(ValueError, match="give one of them"):
        MultiStep([1])
    with pytest.raises(ValueError, match="at least one batch"):
        DrawnEpochs(4, 5)
