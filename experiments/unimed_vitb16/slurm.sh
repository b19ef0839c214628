#!/bin/bash
# UniMed-CLIP as a Slurm job that requeues itself until the run is done. Submit it from the folder that
# holds data/ and is to hold outputs/, or set MEDVLP_DATA and MEDVLP_OUTPUTS:
#   sbatch --account=NAME --partition=NAME slurm.sh [key=value ...]            # 4 nodes of 4 GPUs
#   sbatch --nodes=1 --gpus-per-node=8 --ntasks-per-node=8 slurm.sh            # one node of 8
#   EXPERIMENT=unimed_vitl14_336 sbatch slurm.sh
# The run folder is outputs/<experiment>/job_<job>_step_0, also when Slurm starts the job again.
#SBATCH --job-name=unimed_clip
#SBATCH --nodes=4
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=1-24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out

# 128 pairs on each GPU, as published
srun python -m medvlp.train experiment="${EXPERIMENT:-unimed_vitb16}" \
  trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  data.batch_size="$((128 * SLURM_NTASKS))" "$@"
