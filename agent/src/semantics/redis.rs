//! Redis, by the conventions for databases. Its namespace is the index of a database, which the
//! conventions keep out of names; an address would only be another number there, so that the name is
//! the command alone: `GET`.

use super::db::System;

pub(super) const SYSTEM: System = System { name: "redis", target_in_name: false };
