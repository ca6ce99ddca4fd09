{# The formulas of the scores, from sums and counts; null where there is nothing to divide by. #}

{# Mean of 100 for a positive, 0 for a neutral and -100 for a negative rating: -100 ... 100. #}
{% macro net_csat(count_positive, count_negative, count_ratings) -%}
    100 * ({{ count_positive }} - {{ count_negative }}) / nullif({{ count_ratings }}, 0)
{%- endmacro %}


{# Share of the reviews that were rated: 0 ... 1. #}
{% macro response_rate(count_rated, count_reviews) -%}
    {{ count_rated }} / nullif({{ count_reviews }}, 0)
{%- endmacro %}


{# Percentage of promoters minus percentage of detractors: -100 ... 100. #}
{% macro nps(count_promoters, count_detractors, count_responses) -%}
    100 * ({{ count_promoters }} - {{ count_detractors }}) / nullif({{ count_responses }}, 0)
{%- endmacro %}


{# Mean rating of a category: 1 ... 5. #}
{% macro average_rating(sum_ratings, count_ratings) -%}
    {{ sum_ratings }} / nullif({{ count_ratings }}, 0)
{%- endmacro %}


{# What is counted, from one row a rating, review or response. #}

{% macro count_ratings() -%}
    count(*) as count_ratings,
        count(*) filter (where rating = 1) as count_positive,
        count(*) filter (where rating = 0) as count_neutral,
        count(*) filter (where rating = -1) as count_negative
{%- endmacro %}


{% macro count_reviews() -%}
    count(*) as count_reviews,
        count(rating) as count_rated
{%- endmacro %}


{% macro count_respondents() -%}
    count(*) as count_responses,
        count(*) filter (where respondent_type = 'promoter') as count_promoters,
        count(*) filter (where respondent_type = 'passive') as count_passives,
        count(*) filter (where respondent_type = 'detractor') as count_detractors
{%- endmacro %}


{% macro sum_ratings() -%}
    count(*) as count_ratings,
        cast(sum(rating) as bigint) as sum_ratings
{%- endmacro %}
