"""What operators look at: Grafana dashboards and Prometheus rules, each said once and written for two sets of names.

`names` says what a metric is called in Prometheus, `series` how a query is put together, `goal` what is promised of a
message. `panel` and `dashboard` are the nouns of Grafana, `overview` and `idle_time` the two dashboards; `rule` is the
noun of Prometheus, `alerts` the rules. `provisioning` and `ray_metrics_tab` make Grafana and Ray's own dashboard show
them, and `folder` writes it all.
"""
