{#
How sure a score is: 95 % intervals, and what is too little to go by. They take the answers for a sample of what
customers think of this service, each customer speaking for himself; whoever never answers is in no interval.
#}

{# Below this number of answers a score is marked as a small sample. #}
{% macro small_sample() %}30{% endmacro %}


{#
Both ends of Wilson's score interval for a share (0 ... 1) of `count` answers. (Wilson 1927; recommended for small
counts by Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001.)

Also right, if wide, for the mean of any ratings brought to 0 ... 1: none varies more than yes and no of the same mean.
#}
{% macro wilson_low(share, count) %}greatest(0, least({{ share }}, {{ _wilson(share, count, '-') }})){% endmacro %}
{% macro wilson_high(share, count) %}least(1, greatest({{ share }}, {{ _wilson(share, count, '+') }})){% endmacro %}

{% macro _wilson(share, count, side) -%}
    (
        {{ share }} + {{ _z() }} ^ 2 / (2 * {{ count }}) {{ side }} {{ _z() }} * sqrt(
            {{ share }} * (1 - {{ share }}) / {{ count }} + {{ _z() }} ^ 2 / (4 * {{ count }} ^ 2)
        )
    ) / (1 + {{ _z() }} ^ 2 / {{ count }})
{%- endmacro %}


{#
Both ends of the interval for a net score, 100 * (positive - negative) / count: the adjusted Wald interval, from the
variance of the multinomial with 3/4 of an answer added on either side and 3 in all, without which a few answers that
agree would seem certain. (Rocks, "Interval Estimation for the 'Net Promoter Score'", The American Statistician 70, 2016.)
#}
{% macro net_score_low(positive, negative, count) -%}
    {%- set net = '100 * (' ~ positive ~ ' - ' ~ negative ~ ') / ' ~ count -%}
    greatest(-100, least({{ net }}, {{ _adjusted_wald(positive, negative, count, '-') }}))
{%- endmacro %}

{% macro net_score_high(positive, negative, count) -%}
    {%- set net = '100 * (' ~ positive ~ ' - ' ~ negative ~ ') / ' ~ count -%}
    least(100, greatest({{ net }}, {{ _adjusted_wald(positive, negative, count, '+') }}))
{%- endmacro %}

{% macro _adjusted_wald(positive, negative, count, side) -%}
    100 * (
        ({{ positive }} - {{ negative }}) / ({{ count }} + 3) {{ side }} {{ _z() }} * sqrt(
            (
                ({{ positive }} + {{ negative }} + 1.5) / ({{ count }} + 3)
                - (({{ positive }} - {{ negative }}) / ({{ count }} + 3)) ^ 2
            ) / ({{ count }} + 3)
        )
    )
{%- endmacro %}


{#
Both ends of the interval for the difference of two independent scores, from the scores and their own intervals.
(Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10; for any
measures Zou and Donner, "Construction of confidence limits about effect measures", 2008.)
#}
{% macro difference_low(new, old) -%}
    {{ new }} - {{ old }} - sqrt(({{ new }} - {{ new }}_low) ^ 2 + ({{ old }}_high - {{ old }}) ^ 2)
{%- endmacro %}

{% macro difference_high(new, old) -%}
    {{ new }} - {{ old }} + sqrt(({{ new }}_high - {{ new }}) ^ 2 + ({{ old }} - {{ old }}_low) ^ 2)
{%- endmacro %}


{# The standard normal quantile that leaves 2.5 % on either side. #}
{% macro _z() %}1.959964{% endmacro %}
