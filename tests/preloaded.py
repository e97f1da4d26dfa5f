"""What every process of the server in warm.py would otherwise import, read or find out anew."""

import filelock
import safetensors.torch
import torch
import torch._inductor  # by torch.use_deterministic_algorithms

import throughtime as tt
import throughtime.cli.compare
import throughtime.cli.train
from throughtime.tasks import TASKS
from throughtime.training import current_environment

LOADED = filelock, safetensors.torch, torch._inductor, throughtime.cli
torch.set_num_threads(1)
current_environment(torch.device("cpu"), 1)
next(TASKS.build("digits").batches("training", 1))
with torch.no_grad():  # autograd would start threads, which a fork loses
    tt.LSTM(2, 2)(torch.zeros(1, 1, 2))
