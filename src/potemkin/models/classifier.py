"""A network as a classifier: declared input space, preprocessing inside, logits (B, K) out, and a guest's rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from potemkin.core.checks import number
from potemkin.core.explain import counted, first_line
from potemkin.errors import ConfigError, DataError, ModelError, PotemkinError
from potemkin.models.fingerprint import fingerprint
from potemkin.models.guest import guest
from potemkin.models.logits import as_logits
from potemkin.threat.box import Box


class Classifier:
    """A network that maps inputs in a box to logits.

        logits = net(preprocessing(x)),   x in [low, high]^(...)   ->   (B, K), K >= 2

    The box is where inputs live *before* preprocessing: normalisation belongs inside the model, so that a distance
    is a distance between the inputs that a user sees. A one-logit network becomes (0, z) with `one_logit` set.
    A float64 query gives float64 logits if the network is float64, else the answer is float32. The network gets its
    inputs in the dtype that its parameters had when it was handed over (half precision included).

    Args:
        net: any nn.Module, (B, ...) -> (B, K), (B, 1) or (B,).
        box: a Box or (low, high), in the unit of the inputs.
        classes: K, if it should be checked; else it is read from the first answer.
        device: where the network runs, such as "cpu", "cuda:1" or "auto" (CUDA if there is one); the network is moved
            there. None: where its parameters are.
        name: for reports; None: the class's name.
        preprocessing: a module applied to the inputs first, such as `Preprocessing(mean=..., std=...)`.

    Raises: ModelError for what is not a network; ConfigError for a box, device or classes that cannot be.

    >>> model = Classifier(nn.Flatten(), box=(0, 1))
    >>> model(torch.zeros(8, 1, 2, 2)).shape
    torch.Size([8, 4])
    """

    def __init__(
        self,
        net: nn.Module,
        box: Box | tuple[float, float] = (0.0, 1.0),
        *,
        classes: int | None = None,
        device: str | torch.device | None = None,
        name: str | None = None,
        preprocessing: nn.Module | None = None,
    ) -> None:
        _check_net(net)
        if classes is not None:
            number("classes (one logit counts as 2)", classes, low=2, integer=True)
        self.box = Box.of(box)
        self.device = _as_device(device, net)
        # Only a network that stands elsewhere is moved: `to` on some wrappers copies or refuses.
        self.net = net if _stands_on(net, self.device) else _moved_to(net, self.device)
        self.preprocessing = preprocessing.to(self.device) if preprocessing is not None else None
        self.dtype = _dtype_of(self.net)
        self.classes = classes
        self.one_logit = False
        self.name = name or type(net).__name__

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def __repr__(self) -> str:
        return f"Classifier({self.name}, box={self.box!r}, classes={self.classes}, device={str(self.device)!r})"

    def answer_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype in which `x` is asked and answered: float64 if both sides are, else float32."""
        return torch.float64 if x.dtype == self.dtype == torch.float64 else torch.float32

    @property
    def class_count(self) -> int:
        """How many classes it tells apart; known once it has been called, if it was not declared."""
        assert self.classes is not None, "the classifier was not asked anything yet"
        return self.classes

    @property
    def parameter_count(self) -> int:
        """How many numbers the network's parameters hold, shared ones once."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of `x` (B, ...) on the classifier's device. Cost: one forward per row. `x` is never written to.

        Raises: ModelError if the network fails or answers in another form; DataError if `x` is no tensor of rows.
        """
        if not isinstance(x, Tensor) or x.dim() == 0:
            raise DataError(f"A classifier is called with a tensor (B, ...) of rows, not with {_described(x)}.")
        answer = self.answer_dtype(x)
        # A copy, always: a network may start with an in-place layer, and would write into the caller's inputs.
        given = x.to(device=self.device, dtype=answer, copy=True)
        try:
            inside = given if self.preprocessing is None else self.preprocessing(given)
            returned = self.net(inside.to(self.dtype))
        except PotemkinError:
            raise
        except Exception as error:  # whatever a user's forward raises becomes one paragraph, with the cause chained
            raise ModelError(_failure(error, x, self)) from error
        logits, self.one_logit = as_logits(returned, x.shape[0], self.classes)
        self.classes = logits.shape[1]
        return logits.to(answer)

    def fingerprint(self) -> str:
        """Return "sha256:…" over all parameters and buffers (name, shape, dtype, bytes), class and preprocessing."""
        inner = "" if self.preprocessing is None else f"{self.preprocessing!r} {fingerprint(self.preprocessing)}"
        return fingerprint(self.net, inner)

    @contextmanager
    def guest(self) -> Iterator[list[str]]:
        """Hold the network in eval mode, parameters without gradients; restore and check it on exit.

        Yields the modules that were in train mode on entry, as "features.1 (BatchNorm2d)". See `models.guest`.
        Raises: ModelChangedError naming the parameters and buffers that moved.
        """
        with ExitStack() as stack:
            in_train_mode = stack.enter_context(guest(self.net))
            if self.preprocessing is not None:
                in_train_mode = in_train_mode + stack.enter_context(guest(self.preprocessing))
            yield in_train_mode


def _check_net(net: object) -> None:
    if isinstance(net, Classifier):
        raise ModelError("The model is a Classifier already: use it as it is, or wrap its `.net`.")
    if isinstance(net, type) and issubclass(net, nn.Module):
        raise ModelError(f"The model is the class {net.__name__}, not an instance: call it, {net.__name__}(...).")
    if not isinstance(net, nn.Module):
        raise ModelError(
            f"The model is {_described(net)}; a torch.nn.Module that maps (B, ...) to logits (B, K) is needed. "
            "Wrap a function in a module whose forward calls it."
        )


def _as_device(device: str | torch.device | None, net: nn.Module) -> torch.device:
    if device is None:
        return next((tensor.device for tensor in net.parameters()), torch.device("cpu"))
    try:
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        # Only an allocation says whether the device exists here; it also turns "cuda" into "cuda:0".
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"device={str(device)!r} cannot be used here ({first_line(error)}). "
            "Use 'cpu', or 'cuda' with a CUDA build of torch on a machine with a GPU."
        ) from error


def _dtype_of(net: nn.Module) -> torch.dtype:
    """The dtype of the parameters; float32 for a network without any, or with several (it casts by itself, then)."""
    dtypes = {tensor.dtype for tensor in net.parameters() if tensor.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _stands_on(net: nn.Module, device: torch.device) -> bool:
    return all(tensor.device == device for tensor in (*net.parameters(), *net.buffers()))


def _moved_to(net: nn.Module, device: torch.device) -> nn.Module:
    try:
        return net.to(device)
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(f"The model cannot be moved to {device}: {first_line(error)}") from error


def _failure(error: Exception, x: Tensor, model: Classifier) -> str:
    what = f"{type(error).__name__}: {first_line(error)}"
    said = f"The model {model.name} failed on inputs of shape {tuple(x.shape)}: {what}"
    if isinstance(error, torch.OutOfMemoryError):
        return f"{said}. Its memory is full: use fewer rows at a time, or a smaller model."
    return f"{said}. {_expectation(model, x)}Check that the inputs have the shape the model was trained on."


def _expectation(model: Classifier, x: Tensor) -> str:
    """Say what the first layer takes, where it is one that tells; modules are listed in the order of definition."""
    for name, part in model.net.named_modules():
        where = f"'{name}' ({type(part).__name__})" if name else type(part).__name__
        if isinstance(part, nn.modules.conv._ConvNd):
            wanted = part.in_channels
            last = x.ndim == 4 and x.shape[3] == wanted != x.shape[1]
            advice = "They come last in these inputs: use inputs.permute(0, 3, 1, 2). " if last else ""
            return f"Its first layer {where} takes {counted(wanted, 'channel')}. {advice}"
        if isinstance(part, nn.Linear):
            return f"Its first layer {where} takes {counted(part.in_features, 'feature')}. "
        if isinstance(part, nn.Embedding):
            return f"Its first layer {where} takes whole numbers (tokens), which have no box and no gradient. "
    return ""


def _described(value: object) -> str:
    return "a tensor without rows" if isinstance(value, Tensor) else f"{type(value).__module__}.{type(value).__name__}"
