"""The four scores as people read them: what they are called, how they are written, what they count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A score of `marts.scores`; `name` is its `metric` there."""

    name: str
    title: str
    scale: str
    """From the lowest to the highest possible value; empty where the unit says it."""
    counted: str
    """What `count_responses` counts."""
    form: str
    change_form: str

    def written(self, value: float) -> str:
        """A value as people read it."""
        return self.form.format(value)

    def change(self, before: float, now: float) -> str:
        """The way from one value to another, with its sign; a share moves by points."""
        return self.change_form.format((now - before) * (100 if "%" in self.form else 1))


NET_CSAT = Metric("net_csat", "Net CSAT", "-100 to +100", "rated reviews", "{:+.1f}", "{:+.1f}")
RESPONSE_RATE = Metric("response_rate", "Response rate", "", "reviews", "{:.1%}", "{:+.1f} points")
NPS = Metric("nps", "NPS", "-100 to +100", "responses", "{:+.1f}", "{:+.1f}")
PROJECT_SCORE = Metric("project_survey_score", "Project score", "1 to 5", "ratings", "{:.2f}", "{:+.2f}")
METRICS = (NET_CSAT, RESPONSE_RATE, NPS, PROJECT_SCORE)
