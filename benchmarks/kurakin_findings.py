"""What Kurakin et al. 2017 found, asked of the numbers of kurakin.py: each finding with its criterion and a yes or no.

Figures of the paper are top-1 percentages on ImageNet (Inception v3), recalled and not looked up: they are marked
[mem] wherever they appear. Those of Tramèr et al. 2018 are from its tables. The networks here are some hundred times
smaller and the classes ten: what can agree is the order of things, not the figures. The criteria were written before
the first result was seen; where the paper names no number, they are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.evaluate.rates import Rate
from potemkin.evaluate.statistics import mcnemar

LEVELS = ("2", "4", "8", "16")
"""eps in grey levels, on CIFAR-10."""
TENTHS = ("0.1", "0.2", "0.3")
"""eps in [0, 1], on MNIST."""
AFTERWARDS = " fixed"
"""What the names of the networks end with whose settings were chosen after the first results."""
CLOSE, COLLAPSE, ALPHA = 0.10, 0.5, 0.05

PAPER = {  # clean, 2, 4, 8, 16; Tables 1, 2, 3 and 8
    "step-l.l.-trained, step l.l.": (77.6, 73.5, 74.0, 74.5, 73.9),
    "plain, step l.l.": (78.4, 30.8, 27.2, 27.2, 29.5),
    "step-l.l.-trained, iter. l.l.": (77.4, 29.1, 7.5, 3.0, 1.5),
    "plain, iter. l.l.": (78.3, 23.3, 5.5, 1.8, 0.7),
    "step-l.l.-trained, iter. basic": (77.4, 30.0, 25.2, 23.5, 23.2),
    "plain, iter. basic": (78.3, 31.4, 28.1, 26.4, 25.9),
    "leaking: step-l.l.-trained, step l.l.": (77.3, 72.8, 73.1, 73.4, 72.0),
    "leaking: FGSM-trained, FGSM": (76.6, 86.2, 87.6, 88.7, 87.0),
    "k 0": (78.2, 31.5, 27.7, 27.8, 29.7),
    "k 1/8": (78.3, 71.7, 71.3, 69.4, 65.8),
    "k 1/4": (78.1, 73.2, 73.2, 72.6, 70.5),
    "k 1/2": (77.6, 73.8, 75.3, 76.1, 75.4),
    "k 3/4": (77.1, 73.0, 75.3, 76.2, 76.0),
    "k 1": (76.3, 73.4, 75.1, 75.9, 75.8),
}
WHAT = {"": "", AFTERWARDS: "; one eps, lambda 1, longer, no augmentation: settings chosen after 1 and 2 were seen"}
DATA = {"cifar10": ("CIFAR-10", LEVELS), "mnist": ("MNIST", TENTHS)}


def key(attack: str, eps: str, source: str = "") -> str:
    """The name of one measurement."""
    return f"{attack} {eps}" + (f", points of {source}" if source else "")


class NotYet(Exception):
    """A measurement that a criterion needs has not been made."""


@dataclass
class Finding:
    """One finding on one data set."""

    number: str
    claim: str
    criterion: str
    answer: str = "not measured yet"
    """yes, no, or not measured yet."""
    because: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class Findings:
    """Asks the measurements: network -> measurement -> a text of 0 and 1, one per test picture."""

    def __init__(self, right: dict[str, dict[str, str]]) -> None:
        self.right = right

    def all(self) -> list[Finding]:
        found = []
        for data in DATA:
            found += [self.one_step(data), self.leaking(data)]
        for data in DATA:
            found += [self.one_step(data, AFTERWARDS), self.leaking(data, AFTERWARDS)]
        found += [self.fixed_eps(), self.share(), self.weight(), self.capacity()]
        return [*found, *(self.masking(data) for data in DATA)]

    # Access -------------------------------------------------------------------------------------------------------

    def bits(self, net: str, what: str) -> NDArray[np.bool_]:
        try:
            return np.frombuffer(self.right[net][what].encode(), np.uint8) == ord("1")
        except KeyError:
            raise NotYet(f"{net}: {what}") from None

    def rate(self, net: str, what: str) -> float:
        return float(self.bits(net, what).mean())

    def cell(self, net: str, what: str) -> str:
        try:
            bits = self.bits(net, what)
        except NotYet:
            return "–"
        return Rate.of(int(bits.sum()), len(bits)).short()

    def row(self, label: str, net: str, attack: str, radii: tuple[str, ...], source: str = "") -> list[str]:
        return [label, *(self.cell(net, what) for what in ("clean", *(key(attack, eps, source) for eps in radii)))]

    def beyond(self, net: str, above: str, below: str) -> tuple[float, float]:
        """How much more often the network is right on `above`, and the p of a paired test that it is chance."""
        more, less = self.bits(net, above), self.bits(net, below)
        return float(more.mean() - less.mean()), mcnemar(int((more & ~less).sum()), int((less & ~more).sum()))

    def ratio(self, net: str, what: str) -> tuple[float, float, float]:
        """Adversarial over clean accuracy, with a 95 % bootstrap interval over the pictures."""
        under, clean = self.bits(net, what), self.bits(net, "clean")
        drawn = resamples(len(clean))
        ratios = (drawn @ under) / np.maximum(drawn @ clean, 1)
        low, high = np.quantile(ratios, (0.025, 0.975))
        return float(under.mean() / max(clean.mean(), 1e-9)), float(low), float(high)

    @staticmethod
    def answered(finding: Finding, ask: Callable[[list[str]], bool]) -> Finding:
        try:
            finding.answer = "yes" if ask(finding.because) else "no"
        except NotYet as missing:
            finding.because.append(f"missing: {missing}")
        return finding

    # The findings -------------------------------------------------------------------------------------------------

    def one_step(self, data: str, kind: str = "") -> Finding:
        title, radii = DATA[data]
        ours, plain, last = f"{data} step l.l.{kind}", f"{data} plain", radii[-1]
        finding = Finding(
            "1b" if kind else "1",
            f"{title}: step-l.l.-trained networks resist one step and do not resist iterated ones{WHAT[kind]}",
            f"at eps {last}, trained on step l.l.: under step l.l. within 10 points of clean; under iter. l.l. and "
            "iter. basic at most half of clean; and the plain network is not within 10 points under step l.l.",
        )
        finding.head = ["network, attack", "clean", *radii]
        for attack in ("step l.l.", "iter. l.l.", "iter. basic"):
            for label, net in (("step-l.l.-trained", ours), ("plain", plain)):
                finding.rows.append(self.row(f"{label}, {attack}", net, attack, radii))
                if data == "cifar10":
                    finding.rows.append(paper(f"{label}, {attack}"))

        def ask(because: list[str]) -> bool:
            clean = self.rate(ours, "clean")
            lost = clean - self.rate(ours, key("step l.l.", last))
            plainly = self.rate(plain, "clean") - self.rate(plain, key("step l.l.", last))
            left = [self.rate(ours, key(attack, last)) / clean for attack in ("iter. l.l.", "iter. basic")]
            because += [
                f"step l.l. costs it {100 * lost:.1f} points, the plain network {100 * plainly:.1f}",
                f"of its clean accuracy iter. l.l. leaves {100 * left[0]:.0f} %, iter. basic {100 * left[1]:.0f} %",
            ]
            return lost <= CLOSE < plainly and max(left) <= COLLAPSE

        return self.answered(finding, ask)

    def leaking(self, data: str, kind: str = "") -> Finding:
        title, radii = DATA[data]
        leaky, safe = f"{data} FGSM{kind}", f"{data} step l.l.{kind}"
        finding = Finding(
            "2b" if kind else "2",
            f"{title}: FGSM-trained networks leak labels, step-l.l.-trained ones do not{WHAT[kind]}",
            "leaking at an eps: accuracy on adversarial pictures above clean accuracy (the paper's criterion), beyond "
            f"chance (exact McNemar, p < 0.05 / {len(radii)}). FGSM-trained under FGSM with the true label: at one eps "
            "at least; step-l.l.-trained under step l.l.: at none",
        )
        finding.head = ["network, attack", "clean", *radii]
        for attack in ("FGSM", "FGSM, predicted label", "R+FGSM", "iter. basic"):
            finding.rows.append(self.row(f"FGSM-trained, {attack}", leaky, attack, radii))
            if data == "cifar10" and attack == "FGSM":
                finding.rows.append(paper("leaking: FGSM-trained, FGSM"))
        for attack in ("step l.l.", "FGSM"):
            finding.rows.append(self.row(f"step-l.l.-trained, {attack}", safe, attack, radii))
            if data == "cifar10" and attack == "step l.l.":
                finding.rows.append(paper("leaking: step-l.l.-trained, step l.l."))

        def ask(because: list[str]) -> bool:
            counts = []
            for label, net, attack in (("FGSM", leaky, "FGSM"), ("step-l.l.", safe, "step l.l.")):
                tested = [self.beyond(net, key(attack, eps), "clean") for eps in radii]
                counts.append(sum(gain > 0 and p < ALPHA / len(radii) for gain, p in tested))
                told = ", ".join(
                    f"{100 * gain:+.1f} points at {eps} (p = {p:.2g})"
                    for eps, (gain, p) in zip(radii, tested, strict=True)
                )
                above = sum(gain > 0 for gain, _ in tested)
                because.append(
                    f"{label}-trained under {attack} against clean: {told}; above clean at {above} of {len(radii)} "
                    f"eps, beyond chance at {counts[-1]}"
                )
            return counts[0] >= 1 and counts[1] == 0

        return self.answered(finding, ask)

    def fixed_eps(self) -> Finding:
        drawn, fixed = "short k 1/2", {"16": "short eps 16", "8": "short eps 8"}
        finding = Finding(
            "3",
            "CIFAR-10: a network trained at one fixed eps is robust at that eps only; with eps drawn, at all",
            "under step l.l., eps fixed: within 10 points of clean at its own eps, and not at some other of 2, 4, 8, "
            "16; eps drawn: within 10 points at all four",
        )
        finding.head = ["eps in training", "clean", *LEVELS]
        finding.rows = [self.row("drawn, half-normal up to 16", drawn, "step l.l.", LEVELS)]
        finding.rows += [self.row(f"fixed, {eps}", net, "step l.l.", LEVELS) for eps, net in fixed.items()]

        def ask(because: list[str]) -> bool:
            def near(net: str) -> set[str]:
                clean = self.rate(net, "clean")
                return {eps for eps in LEVELS if clean - self.rate(net, key("step l.l.", eps)) <= CLOSE}

            all_near = {net: near(net) for net in (drawn, *fixed.values())}
            because += [
                f"{net}: within 10 points of clean at eps {', '.join(e for e in LEVELS if e in ok) or 'none'}"
                for net, ok in all_near.items()
            ]
            own = all(eps in all_near[net] and len(all_near[net]) < len(LEVELS) for eps, net in fixed.items())
            return own and len(all_near[drawn]) == len(LEVELS)

        return self.answered(finding, ask)

    def share(self) -> Finding:
        nets = {k: f"short k {k}" for k in ("0", "1/8", "1/4", "1/2", "3/4", "1")}
        finding = Finding(
            "4a",
            "CIFAR-10: the more adversarial rows, the better the resistance (up to half of them) and the lower the "
            "clean accuracy",
            "under step l.l. at eps 16: any k above 0 beats k = 0 by more than 10 points, k = 1/2 beats k = 1/8, and "
            "k = 1 is within 3 points of k = 1/2; clean: k = 1 below k = 0",
        )
        finding.head = ["k / m", "clean", *LEVELS]
        for k, net in nets.items():
            finding.rows += [self.row(k, net, "step l.l.", LEVELS), paper(f"k {k}")]

        def ask(because: list[str]) -> bool:
            last = {k: self.rate(net, key("step l.l.", "16")) for k, net in nets.items()}
            fall = self.rate(nets["0"], "clean") - self.rate(nets["1"], "clean")
            least = min(value for k, value in last.items() if k != "0")
            because += [
                f"at eps 16, k = 0 has {100 * last['0']:.1f} %, the least of the others {100 * least:.1f} %, k = 1/8 "
                f"{100 * last['1/8']:.1f} %, k = 1/2 {100 * last['1/2']:.1f} %, k = 1 {100 * last['1']:.1f} %",
                f"k = 1 costs {100 * fall:.1f} points of clean accuracy",
            ]
            gains = least - last["0"] > CLOSE and last["1/2"] > last["1/8"] and abs(last["1"] - last["1/2"]) <= 0.03
            return gains and fall > 0

        return self.answered(finding, ask)

    def weight(self) -> Finding:
        nets = {"0.1": "short lambda 0.1", "0.3": "short k 1/2", "1": "short lambda 1"}
        finding = Finding(
            "4b",
            "CIFAR-10: lambda trades clean accuracy for resistance (the paper weights the adversarial loss by 0.3 "
            "[mem]; no table of it is recalled)",
            "from lambda 0.1 to 1, clean accuracy falls and accuracy under step l.l. at eps 16 rises",
        )
        finding.head = ["lambda", "clean", *LEVELS]
        finding.rows = [self.row(value, net, "step l.l.", LEVELS) for value, net in nets.items()]

        def ask(because: list[str]) -> bool:
            clean = self.rate(nets["1"], "clean") - self.rate(nets["0.1"], "clean")
            under = self.rate(nets["1"], key("step l.l.", "16")) - self.rate(nets["0.1"], key("step l.l.", "16"))
            because.append(f"clean {100 * clean:+.1f} points, step l.l. at eps 16 {100 * under:+.1f} points")
            return clean < 0 < under

        return self.answered(finding, ask)

    def capacity(self) -> Finding:
        def name(width: int, k: str) -> str:
            return f"short k {k}" if width == 16 else f"short width {width}, k {k}"

        widths = (8, 16, 32)
        finding = Finding(
            "5",
            "CIFAR-10: with adversarial training the ratio of adversarial to clean accuracy rises with the width",
            "under step l.l. at eps 16, trained on it: the ratio at width 8 < 16 < 32; and under iter. l.l. at eps 4 "
            "it is below 0.5 at every width (paper, Figure 1 [mem]: rises to about 1 for one step, never near 1 for "
            "iterated ones; without adversarial training some middle width is best)",
        )
        asked = [("step l.l.", eps) for eps in LEVELS] + [("iter. l.l.", eps) for eps in ("2", "4")]
        finding.head = ["width, training", "clean", *(f"ratio, {attack} {eps}" for attack, eps in asked)]
        for k, label in (("0", "plain"), ("1/2", "step l.l.")):
            for width in widths:
                cells = [self.ratio_cell(name(width, k), key(*each)) for each in asked]
                finding.rows.append([f"{width}, {label}", self.cell(name(width, k), "clean"), *cells])

        def ask(because: list[str]) -> bool:
            one = [self.ratio(name(width, "1/2"), key("step l.l.", "16"))[0] for width in widths]
            many = [self.ratio(name(width, "1/2"), key("iter. l.l.", "4"))[0] for width in widths]
            plain = [self.ratio(name(width, "0"), key("step l.l.", "16"))[0] for width in widths]
            for label, ratios in (
                ("trained on step l.l., step l.l. 16", one),
                ("trained on step l.l., iter. l.l. 4", many),
                ("plain, step l.l. 16", plain),
            ):
                because.append(f"{label}: " + ", ".join(f"{r:.2f}" for r in ratios))
            return one[0] < one[1] < one[2] and max(many) < COLLAPSE

        return self.answered(finding, ask)

    def ratio_cell(self, net: str, what: str) -> str:
        try:
            value, low, high = self.ratio(net, what)
        except NotYet:
            return "–"
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    def masking(self, data: str) -> Finding:
        title, radii = DATA[data]
        ours, last = f"{data} step l.l.", radii[-1]
        finding = Finding(
            "6",
            f"{title}: what Tramèr et al. 2018 showed later: the resistance to one step is masked gradients",
            f"step-l.l.-trained, at eps {last}: step-l.l. points of the plain network (black box) fool it more often "
            "than its own (white box), p < 0.05; the random step first (R+FGSM) is reported beside it, and step l.l. "
            "against FGSM. Tramèr et al., ImageNet, eps 16/256, error: own points 26.6 %, of other networks 35.2 to "
            "36.3 %, after a random step (R+Step-LL) 64.8 %",
        )
        finding.head = ["network, attack", "clean", *radii]
        for label, net in (("step-l.l.-trained", ours), ("FGSM-trained", f"{data} FGSM")):
            for attack in ("step l.l.", "FGSM", "R+FGSM"):
                finding.rows.append(self.row(f"{label}, {attack}", net, attack, radii))
            named = f"{label}, step l.l. points of the plain network"
            finding.rows.append(self.row(named, net, "step l.l.", radii, f"{data} plain"))

        def ask(because: list[str]) -> bool:
            gain, p = self.beyond(ours, key("step l.l.", last), key("step l.l.", last, f"{data} plain"))
            because.append(f"own points minus the plain network's: {100 * gain:+.1f} points of accuracy (p = {p:.2g})")
            return gain > 0 and p < ALPHA

        return self.answered(finding, ask)


@cache
def resamples(n: int, times: int = 2000) -> NDArray[np.float32]:
    """(times, n): how often each picture is in each bootstrap sample."""
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=times)
    return drawn.astype(np.float32)


def paper(name: str) -> list[str]:
    """The recalled row."""
    return ["paper, ImageNet [mem]", *(f"{value:.1f} %" for value in PAPER[name])]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


def markdown(findings: list[Finding], found: dict[str, Any]) -> str:
    """The page."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        "# Kurakin, Goodfellow and Bengio 2017, at small scale",
        "",
        *([] if not found["quick"] else ["**--quick: nothing was learnt, these numbers mean nothing.**", ""]),
        f"`OMP_NUM_THREADS=1 python benchmarks/kurakin.py`; {found['date']}; {found['machine']}; {versions}.",
        "",
        f"One seed ({found['seed']}). Accuracy at the last point of each attack, in eval mode and float32, on the "
        f"first n = {found['measured_on']:,} test pictures; 95 % Wilson intervals, of ratios bootstrap intervals over "
        "the pictures. They hold for these networks: another seed would give others. eps in grey levels on CIFAR-10, "
        "in [0, 1] on MNIST; iterations as in the paper, one grey level each. Figures of the paper are top-1 on "
        "ImageNet, recalled: [mem].",
        "",
        *table(["finding", "claim", "here"], [[f.number, f.claim, f"**{f.answer}**"] for f in findings]),
    ]
    for finding in findings:
        lines += [
            "",
            f"## {finding.number}. {finding.claim}",
            "",
            f"**{finding.answer}**. Criterion: {finding.criterion.rstrip('.')}.",
        ]
        lines += ["", *(f"- {each}" for each in finding.because), "", *table(finding.head, finding.rows)]
    lines += ["", "## Networks", ""]
    rows = [
        [name, about["model"], f"{about['epochs']:g}", f"{about['trained_on']:,}", f"`{about['recipe']}`",
         str(about["true_class_least_likely"]), f"{about['training_seconds'] / 60:.1f}"]
        for name, about in found["networks"].items()
        if "true_class_least_likely" in about
    ]  # fmt: skip
    head = ["name", "model", "epochs", "pictures", "recipe", "true class least likely", "minutes"]
    lines += table(head, rows)
    lines += [
        "",
        "Of the `true class least likely` pictures the step l.l. attacks here take the second least likely class; the "
        "paper takes the true one.",
    ]
    return "\n".join(lines) + "\n"
