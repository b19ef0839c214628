"""What the tables of published flags tell users to type exists in the configuration."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medvlp import config, predict

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
HLIP, UNIMED, FVLM = "hlip_ctrate", "unimed_vitb16", "fvlm_ctrate"
HSENET, HSENET2 = "hsenet_stage1", "hsenet_stage2"
HSENET_MRG, HSENET_VQA = "hsenet_mrg", "hsenet_vqa"
BASE = {
    (HLIP, "Published flags: training"): (["experiment=hlip_ctrate"], "train"),
    (HLIP, "Published flags: preparation"): (["data=ct_rate"], "prepare"),
    (HLIP, "Published flags: evaluation"): (["experiment=hlip_ctrate"], "train"),
    (UNIMED, "Published options: training"): (["experiment=unimed_vitb16"], "train"),
    (UNIMED, "Published options: evaluation"): (["experiment=unimed_vitb16"], "train"),
    (UNIMED, "Published options: preparation"): (["data=unimed/all"], "prepare"),
    (FVLM, "Published options: training"): (["experiment=fvlm_ctrate"], "train"),
    (FVLM, "Published options: preparation"): (["data=ct_rate_fvlm"], "prepare"),
    (FVLM, "Published options: evaluation"): (["experiment=fvlm_ctrate"], "train"),
    (HSENET, "Published options: training"): (["experiment=hsenet_stage1"], "train"),
    (HSENET, "Published options: preparation"): (["data=ct_rate_hsenet"], "prepare"),
    (HSENET, "Published options: evaluation"): (["experiment=hsenet_stage1"], "train"),
    (HSENET2, "Published options: training"): (
        ["experiment=hsenet_stage2", "init.path=FILE"],
        "train",
    ),
    **{
        (name, f"Published options: {section}"): ([f"experiment={name}", "init.path=FILE"], "train")
        for name in (HSENET_MRG, HSENET_VQA)
        for section in ("training", "evaluation")
    },
}
PUBLISHED_COMMAND = (
    "json-root data-root train-data input-info zeroshot-ct-rate zeroshot-template "
    "zeroshot-frequency save-frequency report-to wandb-project-name warmup batch-size accum-batch "
    "lr wd epochs precision workers grad-checkpointing model use-cxr-bert lock-text"
)
PUBLISHED_CONFIGURATION = (  # what the run configurations of UniMed-CLIP set
    "inmem engine eval_steps save_frequency train_data train_num_samples "
    "train_data_upsampling_factors workers batch_size epochs eval_freq model name force_quick_gelu "
    "warmup seed local_loss gather_with_grad nodes ngpus imagenet_val report_to lr "
    "tokenizer_context_length text_encoder_model_name grad_checkpointing pretrained"
)
FVLM_CONFIGURATION = (  # what fVLM's run configuration sets
    "arch model_type ckpt_path load_pretrained load_finetuned max_txt_len max_txt_len_conc "
    "max_txt_len_desc queue_size alpha coco_caption vis_processor text_processor image_size task "
    "lr_sched init_lr min_lr warmup_lr weight_decay max_epoch batch_size_train batch_size_eval "
    "num_workers warmup_steps log_freq seed output_dir amp resume_ckpt_path evaluate train_splits "
    "device world_size dist_url distributed"
)
HSENET_VLM_ARGUMENTS = (  # what the argument classes of HSENet's language model have
    "version model_name_or_path ablation_type model_type freeze_backbone pretrain_mllm "
    "tune_mm_mlp_adapter is_pretraining pretrain_mm_mlp_adapter pretrained_visual_clip "
    "resume_mllm_weights image_channel image_size patch_size vision_tower remain_2d3d_ViT_type "
    "vision_select_layer vision_select_feature freeze_vision_tower mm_projector_type "
    "use_parallel_projector proj_layer_type proj_layer_num proj_pooling_type proj_pooling_size "
    "segmentation_module pretrain_seg_module data_root use_training_data cap_data_path is_vqa_mark "
    "vqa_data_train_path vqa_data_val_path vqa_data_test_path vqa_yn_data_train_path lora_enable "
    "lora_r lora_alpha lora_dropout lora_weight_path lora_bias cache_dir remove_unused_columns "
    "model_max_length seed ddp_backend ddp_timeout ddp_find_unused_parameters optim bf16 "
    "output_dir save_step_names_list num_train_epochs per_device_train_batch_size "
    "per_device_eval_batch_size gradient_accumulation_steps evaluation_strategy "
    "eval_accumulation_steps eval_steps save_strategy save_steps save_total_limit learning_rate "
    "weight_decay warmup_ratio lr_scheduler_type logging_steps gradient_checkpointing "
    "dataloader_pin_memory dataloader_num_workers report_to"
)
HSENET_ARGUMENTS = (  # what the training script and its argument classes of HSENet's stage 2 set
    "language_model_name_or_path version local_loss gather_loss bf16 output_dir num_train_epochs "
    "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
    "evaluation_strategy eval_accumulation_steps eval_steps save_strategy save_steps "
    "save_total_limit learning_rate weight_decay warmup_ratio lr_scheduler_type logging_steps "
    "gradient_checkpointing dataloader_pin_memory dataloader_num_workers report_to use_mask "
    "mask_rate use_2D_Encoder pretrained_model stage2_pretrained_CLIP_path in_channels img_size "
    "patch_size hidden_size mlp_dim num_layers num_heads pos_embed dropout_rate spatial_dims "
    "max_text_len vocab_size data_root cap_data_path max_length cache_dir optim "
    "remove_unused_columns ddp_backend ddp_find_unused_parameters save_step_names_list"
)


def rows(experiment: str, section: str) -> list[tuple[str, str]]:
    text = (EXPERIMENTS / experiment / "README.md").read_text(encoding="utf-8")
    table = text.split(f"## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| (.*?) \| (.*?) \|", table, re.MULTILINE)[1:]
    assert found
    return found


def key_of(typed: str) -> str:
    return typed.partition("=")[0].lstrip("+")


def is_group(key: str) -> bool:
    return (config.config_dir() / key).is_dir()


def parts_of(typed: list[str]) -> tuple[set[str], set[str]]:
    """Return the top-level nodes that are touched, and those of which a group is chosen."""
    keys = [key_of(word) for word in typed]
    nodes = {re.split(r"[./]", key)[0] for key in keys}
    return nodes, {re.split(r"[./]", key)[0] for key in keys if is_group(key)}


def words_by_tree() -> list[tuple[tuple[str, str], list[str]]]:
    """List what is typed for the flags; flags that do not disturb each other share one tree."""
    trees: list[tuple[tuple[str, str], list[str]]] = []
    for section in BASE:
        for flag, here in rows(*section):
            typed = re.findall(r"`([^`]+)`", here)
            assert typed or here == "left out", f"{flag}: neither a key nor left out"
            nodes, chosen = parts_of(typed)
            for name, words in trees:
                known, before = parts_of(words)
                if name == section and not chosen & known and not before & nodes:
                    words += [word for word in typed if word not in words]
                    break
            else:
                trees.append((section, list(typed)))
    return trees


@pytest.mark.parametrize(("section", "typed"), words_by_tree(), ids=lambda part: str(part)[:60])
def test_what_stands_for_a_flag_composes(section: tuple[str, str], typed: list[str]) -> None:
    overrides, name = BASE[section]
    cfg = config.compose([*overrides, "paths.raw=DIR", *typed], name)
    for key in map(key_of, typed):
        assert is_group(key) or OmegaConf.select(cfg, key) is not None, key
    config.check_keys(config.resolve(cfg))


def test_every_flag_of_the_published_command_is_in_the_table() -> None:
    table = rows(HLIP, "Published flags: training")
    named = {flag for flags, _ in table for flag in re.findall(r"--([\w-]+)", flags)}
    assert set(PUBLISHED_COMMAND.split()) <= named


def test_every_option_of_the_published_configurations_is_in_the_table() -> None:
    table = rows(UNIMED, "Published options: training")
    named = {option for options, _ in table for option in re.findall(r"`(\w+)`", options)}
    assert set(PUBLISHED_CONFIGURATION.split()) <= named


def test_every_option_of_fvlms_configuration_is_in_the_table() -> None:
    table = rows(FVLM, "Published options: training")
    named = {option for options, _ in table for option in re.findall(r"`(\w+)`", options)}
    assert set(FVLM_CONFIGURATION.split()) <= named


def test_every_argument_of_hsenets_training_is_in_the_tables() -> None:
    tables = [*rows(HSENET, "Published options: training")]
    tables += rows(HSENET2, "Published options: training")
    named = {option for options, _ in tables for option in re.findall(r"`(\w+)`", options)}
    assert set(HSENET_ARGUMENTS.split()) <= named


def test_every_argument_of_hsenets_language_model_is_in_the_table() -> None:
    table = rows(HSENET_MRG, "Published options: training")
    named = {option for options, _ in table for option in re.findall(r"`(\w+)`", options)}
    assert set(HSENET_VLM_ARGUMENTS.split()) <= named


def test_what_stands_for_an_option_of_submission_is_in_the_script() -> None:
    script = (EXPERIMENTS / UNIMED / "slurm.sh").read_text(encoding="utf-8")
    for _, here in rows(UNIMED, "Published options: submission"):
        for option in re.findall(r"`([^`]+)`", here):
            assert option in script, option


def test_the_options_of_predict_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    printed = capsys.readouterr().out
    for _, here in rows(HLIP, "Published flags: inference"):
        for option in re.findall(r"`([^`]+)`", here):
            assert option in printed, option


def commands() -> list[list[str]]:
    """List the arguments of every command line in the READMEs of the full-size experiments."""
    lines = []
    for readme in sorted(EXPERIMENTS.glob("*_*/README.md")):
        blocks = re.findall(r"```bash\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            found = re.search(r"-m medvlp\.(?:train|evaluate test) ([^#]*)", line)
            lines += [found[1].split()] if found else []
    return lines


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_the_commands_of_the_experiments_compose(arguments: list[str]) -> None:
    plain = [re.sub(r"^--(experiment|data|evaluation)=", r"\1=", word) for word in arguments]
    overrides = [word for word in plain if not word.startswith("--")]
    config.check_keys(config.resolve(config.compose(overrides)))
