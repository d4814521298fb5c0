//! The agent's own totals as what was added since they were told last, for whoever wants delta temporality.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    attribute::Value,
    metrics_data::{Data, MetricBatch, Number, NumberPoint, Temporality},
};

/// A metric and the attributes of one of its points, as text.
type Series = (Cow<'static, str>, String);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    told: HashMap<Series, Number>,
    told_unix_ns: Option<u64>,
}

impl Deltas {
    /// Turns cumulative totals into what came since the last call, or the beginning. Sums that may fall stay
    /// as they are: so the specification has it for this preference.
    pub(super) fn apply(&mut self, batch: &mut MetricBatch) {
        let mut now_unix_ns = self.told_unix_ns;
        for metric in &mut batch.metrics {
            let Data::Sum { points, temporality, monotonic: true } = &mut metric.data else {
                continue;
            };
            *temporality = Temporality::Delta;
            for NumberPoint { point, value } in points {
                let attributes: Vec<(Cow<'static, str>, Value)> = point.attributes.0.to_vec();
                let series = (metric.name.clone(), format!("{attributes:?}"));
                let total = *value;
                *value = since(total, self.told.insert(series, total));
                now_unix_ns = Some(point.time_unix_ns);
                point.start_unix_ns = self.told_unix_ns.unwrap_or(point.start_unix_ns);
            }
        }
        self.told_unix_ns = now_unix_ns;
    }
}

fn since(total: Number, told: Option<Number>) -> Number {
    match (total, told) {
        (Number::Int(total), Some(Number::Int(told))) => Number::Int(total - told),
        (Number::Double(total), Some(Number::Double(told))) => Number::Double(total - told),
        (total, _) => total,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics_data::{Attributes, Metric, Point};

    fn batch(now: u64, rows: &[(&str, i64)], monotonic: bool) -> MetricBatch {
        let point = |(reason, value): &(&str, i64)| NumberPoint {
            point: Point {
                attributes: Attributes::from_iter([("reason", Value::from(*reason))]),
                start_unix_ns: 1,
                time_unix_ns: now,
                exemplars: Vec::new(),
            },
            value: Number::Int(*value),
        };
        let points = rows.iter().map(point).collect();
        let data = Data::Sum { points, temporality: Temporality::Cumulative, monotonic };
        let metric = Metric { name: "m".into(), unit: "1".into(), description: "".into(), data };
        MetricBatch { resource: Arc::default(), metrics: vec![metric] }
    }

    fn told(batch: &MetricBatch) -> Vec<(u64, u64, Number)> {
        let Data::Sum { points, .. } = &batch.metrics[0].data else { panic!("{batch:?}") };
        let of = |one: &NumberPoint| (one.point.start_unix_ns, one.point.time_unix_ns, one.value);
        points.iter().map(of).collect()
    }

    #[test]
    fn totals_become_what_came_since_each_in_its_own_series() {
        let mut deltas = Deltas::default();
        let mut first = batch(10, &[("a", 5), ("b", 1)], true);
        deltas.apply(&mut first);
        assert_eq!(told(&first), [(1, 10, Number::Int(5)), (1, 10, Number::Int(1))]);
        let mut second = batch(20, &[("b", 4), ("a", 5), ("c", 2)], true);
        deltas.apply(&mut second);
        let of = |value| (10, 20, Number::Int(value));
        assert_eq!(told(&second), [of(3), of(0), of(2)]);
        let Data::Sum { temporality, .. } = second.metrics[0].data else { panic!() };
        assert_eq!(temporality, Temporality::Delta);
    }

    #[test]
    fn what_may_fall_stays_a_total() {
        let mut deltas = Deltas::default();
        for now in [10, 20] {
            let mut one = batch(now, &[("a", 5)], false);
            deltas.apply(&mut one);
            assert_eq!(one, batch(now, &[("a", 5)], false));
        }
    }
}
