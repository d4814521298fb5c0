//! What is said of exports of telemetry that are left out.

use std::mem;

use crate::semantics::telemetry::Export;

/// What was said of exports that are left out: once of each kind.
#[derive(Debug, Default)]
pub(super) struct ToldExports {
    agents: bool,
    others: bool,
}

impl ToldExports {
    pub(super) fn tell(&mut self, export: Export, service: &str) {
        match export {
            Export::Agents if !mem::replace(&mut self.agents, true) => tracing::info!(
                service,
                "a selected process takes exports of this agent or another one: they become no \
                 spans and are not measured, or there would be one more for each"
            ),
            Export::Others if !mem::replace(&mut self.others, true) => tracing::info!(
                service,
                "a selected process sends or takes telemetry over OTLP: such requests become no \
                 spans and are not measured (filter.telemetry keeps them)"
            ),
            Export::Agents | Export::Others => {}
        }
    }
}
