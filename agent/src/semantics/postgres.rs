//! PostgreSQL, by the conventions for databases. Names come from the summary of the query; where the
//! query is unknown, from the command that the server completed, and the database: `SELECT shop`.

use super::db::System;

pub(super) const SYSTEM: System = System { name: "postgresql", target_in_name: true };
