#!/bin/bash
# Two nodes with a GPU each train one run: sbatch tutorials/cluster/slurm.sh
# Every task finds its place in Slurm's variables. A job that is put back into the queue goes on where it stopped.
#SBATCH --job-name=ppo-keras
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
run=slurm # its folder, runs/slurm, must lie on a file system that every node sees
resume=""
if ls "runs/$run"/checkpoints/*.npz > /dev/null 2>&1; then resume="--resume $run"; fi
srun --kill-on-bad-exit=1 ppo-keras train generation --devices auto --run "$run" --worker-timeout 120 $resume
