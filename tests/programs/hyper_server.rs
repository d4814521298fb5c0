//! Answers as the plan of `src/plan.rs` wants it, with hyper, and logs it.
//!
//! `hyper_server LOG [FOLDER]`: with FOLDER over rustls, by the cert.pem and key.pem in it.

mod plan {
    pub(crate) mod answers;
}
mod tls {
    pub(crate) mod server;
}

use std::{env, fs::File, path::Path};

use plan::answers::{self, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let log = env::args().nth(1).ok_or("where is the log?")?;
    let log = File::options().append(true).create(true).open(log)?;
    let acceptor =
        env::args().nth(2).map(|folder| tls::server::acceptor(Path::new(&folder))).transpose()?;
    answers::run(log, acceptor).await
}
