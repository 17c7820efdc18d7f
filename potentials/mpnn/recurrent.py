"""Recurrent units in plain operations, so that every linear map and activation is a module.

Their equations and the order of their gates are those of torch's GRUCell and LSTMCell, whose fused
kernels on a GPU hide both, and are no plain operations to a tracer.
"""

from torch import Tensor, nn


class GatedRecurrentUnit(nn.Module):
    """GRU of Cho et al., arXiv:1406.1078: a state that takes in a message.

    Parameters
    ----------
    width : int
        Of message and state.
    """

    def __init__(self, width: int):
        super().__init__()
        self.of_message, self.of_state = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.gate, self.activation = nn.Sigmoid(), nn.Tanh()

    def forward(self, message: Tensor, state: Tensor) -> Tensor:
        message_reset, message_update, message_new = self.of_message(message).chunk(3, dim=1)
        state_reset, state_update, state_new = self.of_state(state).chunk(3, dim=1)
        reset = self.gate(message_reset + state_reset)
        update = self.gate(message_update + state_update)
        new = self.activation(message_new + reset * state_new)
        return (1 - update) * new + update * state


class LongShortTermMemory(nn.Module):
    """LSTM of Hochreiter and Schmidhuber with forget gate: state and memory take in an input.

    Parameters
    ----------
    n_inputs, width : int
        Of the input; of state and memory.
    """

    def __init__(self, n_inputs: int, width: int):
        super().__init__()
        self.of_input, self.of_state = nn.Linear(n_inputs, 4 * width), nn.Linear(width, 4 * width)
        self.gate, self.activation = nn.Sigmoid(), nn.Tanh()

    def forward(self, given: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        enter, keep, new, leave = (self.of_input(given) + self.of_state(state)).chunk(4, dim=1)
        memory = self.gate(keep) * memory + self.gate(enter) * self.activation(new)
        return self.gate(leave) * self.activation(memory), memory
