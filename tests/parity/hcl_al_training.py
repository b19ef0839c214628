"""HCL-AL: epochs and learning rates."""

from medvlp.optim.multi_step import DrawnEpochs, MultiStep

from .registry import Case, handles


@handles("hcl_al", "coarse_schedule")
def coarse_schedule(case: Case) -> None:
    for run in case.config["runs"]:
        samples = run["words_with_samples"] * run["word_iter_num_per_epoch"]
        epochs = DrawnEpochs(samples, run["batchsize"], run["resume_epoch"])
        schedule = MultiStep(run["milestones"], run["gamma"], drawn=epochs, compat="published")
        total = epochs.num_steps(run["epochs"])
        assert total == run["num_iterations"]
        steps = range(total)
        assert [epochs.epoch_of(step) for step in steps] == run["epoch_of_iteration"]
        rates = [run["base_lr"] * schedule(step, total) for step in steps]
        assert rates == run["lr_used_in_iteration"]
        kept = [[epochs.epoch_of(i), i] for i in steps if epochs.saves(i, run["save_epochs"])]
        assert kept == run["saved_epoch_and_iteration"]
