//! What is not certain of an exchange: marks on its span, and sizes that are not measured.

use super::*;
use crate::semantics::{
    instrument::{Instrument, Measure},
    metrics::Family,
};

#[test]
fn marks_are_shown_only_when_set() {
    let keys = [
        "remora.joined",
        "remora.request.head.cut",
        "remora.response.head.cut",
        "remora.end.inferred",
        "remora.request.body.size.estimated",
        "remora.response.body.size.estimated",
        "remora.request.body.size.incomplete",
        "remora.gap",
        "remora.request.fields.unknown",
        "remora.response.fields.unknown",
    ];
    let found = made(Role::Server, |_| {});
    assert!(keys.iter().all(|key| found.text(key) == "-"));
    let found = made(Role::Server, |exchange| {
        exchange.marks = Marks {
            joined: true,
            request_head_cut: true,
            response_head_cut: true,
            end_inferred: true,
            request_size_estimated: true,
            response_size_estimated: true,
            request_content_incomplete: true,
            gap: true,
            request_fields_unknown: true,
            response_fields_unknown: true,
        };
    });
    assert!(keys.iter().all(|key| found.text(key) == "true"));
    let found = made(Role::Server, |exchange| on(exchange, |c| c.joined = true));
    assert_eq!(found.text("remora.joined"), "true");
}

/// The sizes of request and response that a span has, and those that are measured of it.
fn sizes(change: impl FnOnce(&mut Exchange)) -> [(String, Option<f64>); 2] {
    let mut exchange = exchange(Role::Server);
    http(&mut exchange).request_content_len = 38;
    change(&mut exchange);
    let span = span(exchange);
    let found = Collected::of(&span);
    let measured = |measure: Measure| {
        let instruments: &[Instrument] = Family::Http.instruments(Role::Server);
        assert!(instruments.iter().any(|instrument| instrument.measure == measure));
        measure.of(&span)
    };
    [
        (found.text("http.request.body.size"), measured(Measure::RequestContent)),
        (found.text("http.response.body.size"), measured(Measure::ResponseContent)),
    ]
}

#[test]
fn sizes_that_are_not_known_exactly_are_marked_and_not_measured() {
    type Change = fn(&mut Marks);
    let known = || [("38".to_owned(), Some(38.0)), ("12".to_owned(), Some(12.0))];
    assert_eq!(sizes(|_| {}), known());
    let none = || ("-".to_owned(), None);
    let cases: [(Change, usize, (String, Option<f64>)); 5] = [
        (|marks| marks.request_head_cut = true, 0, none()),
        (|marks| marks.response_head_cut = true, 1, none()),
        (|marks| marks.request_size_estimated = true, 0, ("38".into(), None)),
        (|marks| marks.response_size_estimated = true, 1, ("12".into(), None)),
        (|marks| marks.request_content_incomplete = true, 0, ("38".into(), None)),
    ];
    for (change, side, expected) in cases {
        let mut all = known();
        all[side] = expected;
        assert_eq!(sizes(|exchange| change(&mut exchange.marks)), all);
    }
}

#[test]
fn a_response_that_was_none_has_no_size() {
    let [request, response] = sizes(|exchange| http(exchange).status = 0);
    assert_eq!((request.1, response), (Some(38.0), ("-".into(), None)));
}
