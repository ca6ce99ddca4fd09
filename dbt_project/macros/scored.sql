{#
The scores of slices of answers, with all that has to stand beside them: every row of `answers` (as in
`int_answers_daily`, joined to whatever cuts it) belongs to the slice that its `keys` name.

The score of projects is the mean of the categories' means, however many ratings each has. `answers` is read twice:
it should not be materialized.
#}
{% macro scored(answers, keys) -%}
    {%- set keys = keys | join(', ') -%}
    select
        {{ keys }},
        cast(count_responses as bigint) as count_responses,
        cast(case metric
            when 'net_csat' then {{ net_csat('count_positive', 'count_negative', 'count_responses') }}
            when 'response_rate' then {{ response_rate('count_positive', 'count_responses') }}
            when 'nps' then {{ nps('count_positive', 'count_negative', 'count_responses') }}
            else mean_of_means
        end as double) as value,
        cast(case metric
            when 'response_rate' then {{ wilson_low('(count_positive / count_responses)', 'count_responses') }}
            when 'project_survey_score'
                then 1 + 4 * {{ wilson_low('((mean_of_means - 1) / 4)', 'count_in_mean') }}
            else {{ net_score_low('count_positive', 'count_negative', 'count_responses') }}
        end as double) as value_low,
        cast(case metric
            when 'response_rate' then {{ wilson_high('(count_positive / count_responses)', 'count_responses') }}
            when 'project_survey_score'
                then 1 + 4 * {{ wilson_high('((mean_of_means - 1) / 4)', 'count_in_mean') }}
            else {{ net_score_high('count_positive', 'count_negative', 'count_responses') }}
        end as double) as value_high,
        least_count < {{ small_sample() }} as is_small_sample,
        cast(count_positive as bigint) as count_positive,
        cast(count_neutral as bigint) as count_neutral,
        cast(count_negative as bigint) as count_negative,
        cast(case when metric = 'net_csat' then 100 * count_positive / count_responses end as double) as csat_percent,
        cast(case
            when metric = 'net_csat'
                then 100 * {{ wilson_low('(count_positive / count_responses)', 'count_responses') }}
        end as double) as csat_percent_low,
        cast(case
            when metric = 'net_csat'
                then 100 * {{ wilson_high('(count_positive / count_responses)', 'count_responses') }}
        end as double) as csat_percent_high
    from (
        select
            {{ keys }},
            sum(count_answers) as count_responses,
            sum(count_positive) as count_positive,
            sum(count_neutral) as count_neutral,
            sum(count_negative) as count_negative,
            null as mean_of_means,
            null as count_in_mean,
            sum(count_answers) as least_count
        from {{ answers }}
        where metric != 'project_survey_score'
        group by {{ keys }}
        union all
        select
            {{ keys }},
            sum(count_answers) as count_responses,
            null as count_positive,
            null as count_neutral,
            null as count_negative,
            avg({{ average_rating('sum_ratings', 'count_answers') }}) as mean_of_means,
            -- The harmonic mean of the categories' counts.
            1 / avg(1 / count_answers) as count_in_mean,
            min(count_answers) as least_count
        from (
            select
                {{ keys }},
                category,
                sum(count_answers) as count_answers,
                sum(sum_ratings) as sum_ratings
            from {{ answers }}
            where metric = 'project_survey_score'
            group by {{ keys }}, category
        ) as categories
        group by {{ keys }}
    ) as slices
{%- endmacro %}
