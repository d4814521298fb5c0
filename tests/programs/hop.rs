//! A service that says which pod it is, and passes the request on if it knows to whom.
//!
//! `hop ADDRESS [NEXT]` answers any GET with `$POD/$CONTAINER`, a line behind those of what it asked. With
//! `END=N` it ends at the Nth request, once that is answered, with the status `$STATUS`.

mod http {
    pub(crate) mod client;
    pub(crate) mod message;
    pub(crate) mod server;
}

use std::{
    env,
    error::Error,
    net::{SocketAddr, TcpListener},
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use http::{
    client::Client,
    server::{Response, serve},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().ok_or("usage: hop ADDRESS [NEXT]")?;
    let next: Option<SocketAddr> = args.next().map(|next| next.parse()).transpose()?;
    let name = |key| env::var(key).unwrap_or_else(|_| "?".to_owned());
    let own = Arc::new(format!("{}/{}\n", name("POD"), name("CONTAINER")));
    let last: u32 = env::var("END").map_or(Ok(u32::MAX), |count| count.parse())?;
    let status: i32 = env::var("STATUS").map_or(Ok(0), |status| status.parse())?;
    let answered = Arc::new(AtomicU32::new(0));
    serve(&TcpListener::bind(address)?, || {
        let mut client = next.map(Client::new);
        let (own, answered) = (Arc::clone(&own), Arc::clone(&answered));
        move |_: &str, target: &str| {
            if answered.fetch_add(1, Relaxed) + 1 >= last {
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(200));
                    process::exit(status);
                });
            }
            match client.as_mut().map(|client| client.send("GET", target, "")) {
                None => Response::new(200, &**own),
                Some(Ok((status, said))) => Response::new(status, said + &own),
                Some(Err(_)) => Response::new(502, &**own),
            }
        }
    })?;
    Ok(())
}
