//! A service that asks another one twice for each request, with the request's number. What is asked for says how:
//!
//! | path | the other service is asked |
//! |---|---|
//! | `/turn/7`, and what a service like this asks for | in turn, by the handler |
//! | `/once/7` | both at once, by the handler |
//! | `/spawn/7` | both at once, by tasks of their own |
//! | `/nested/7` | by tasks of a task |
//! | `/boxed/7` | both at once, by tasks of their own whose futures are boxes, while workers are such, too, that every second request uses |
//! | `/blocking/7` | by tasks that a thread for blocking calls has started |
//! | `/raw/7` | in turn, over connections without a client's tasks that whoever needs one takes from a list |
//! | `/cancelled/7` | in turn, behind requests (`/gone/7`) that it gives up at any point |
//! | `/late/7` | the second time when it has answered long since |
//! | `/actor/7` | by a task that does so for all, which was there before |
//! | `/shared/7` | over one connection that has a task for all, which the first request has started |
//! | `/pool/7` | by workers that the first request has started |
//! | `/elastic/7` | by workers that are started with a first order where none is idle |
//! | `/drain/7` | by a task that does so until nobody wants anything any more, and ends |
//! | `/kept/7` | likewise, and somebody keeps its handle |
//! | `/refresh/7` | by a task that the first request has started and that does so for all who wait |
//!
//! Where tasks outlive the request that has started them, the first requests take longest.
//! Arguments: the other service's port; `multi` or `current`, how many threads the runtime has.

use std::{
    collections::VecDeque,
    env,
    future::Future,
    pin::Pin,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::Uri};
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::{Mutex, mpsc, oneshot},
    task::{self, JoinHandle},
    time,
};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone)]
struct Other {
    port: u16,
    client: Client,
    actor: mpsc::UnboundedSender<Question>,
}

/// What is to be asked for, and who is told of the answer.
type Question = (String, oneshot::Sender<()>);

impl Other {
    async fn ask(self, name: &str, number: u32) {
        let url = format!("http://127.0.0.1:{}/{name}/{number}", self.port);
        let answer = self.client.get(url).send().await.expect("an answer");
        let text = answer.text().await.expect("its content");
        assert!(["ok", "done"].contains(&&*text), "{text}");
    }

    async fn raw(&self, name: &str, number: u32) {
        static IDLE: std::sync::Mutex<Vec<TcpStream>> = std::sync::Mutex::new(Vec::new());
        let idle = IDLE.lock().expect("not poisoned").pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect(("127.0.0.1", self.port)).await.expect("a connection"),
        };
        let head = format!("GET /{name}/{number} HTTP/1.1\r\nhost: t\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\nok") {
            assert_ne!(stream.read_buf(&mut bytes).await.expect("read"), 0, "it hung up");
        }
        IDLE.lock().expect("not poisoned").push(stream);
    }

    fn first(&self, number: u32) -> impl Future<Output = ()> + Send + use<> {
        self.clone().ask("first", number)
    }

    fn second(&self, number: u32) -> impl Future<Output = ()> + Send + use<> {
        self.clone().ask("second", number)
    }
}

/// Puts the question to a task that has this channel.
async fn by(actor: &mpsc::UnboundedSender<Question>, name: &str, number: u32) {
    let (done, answered) = oneshot::channel();
    actor.send((format!("/{name}/{number}"), done)).expect("it lives");
    answered.await.expect("an answer");
}

/// Asks for all by the client.
async fn actor(port: u16, client: Client, mut questions: mpsc::UnboundedReceiver<Question>) {
    while let Some((path, done)) = questions.recv().await {
        let answer = client.get(format!("http://127.0.0.1:{port}{path}")).send().await;
        answer.expect("an answer").text().await.expect("its content");
        let _ = done.send(());
    }
}

/// Asks for all over one connection of its own.
async fn shared(port: u16, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let mut waiting = VecDeque::new();
    let mut bytes = Vec::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let (path, done) = question.expect("they live");
                let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
                stream.write_all(head.as_bytes()).await.expect("written");
                waiting.push_back(done);
            }
            len = stream.read_buf(&mut bytes) => {
                assert_ne!(len.expect("read"), 0, "it hung up");
                while let Some(at) = bytes.windows(6).position(|it| it == b"\r\n\r\nok") {
                    bytes.drain(..at + 6);
                    let _ = waiting.pop_front().expect("asked").send(());
                }
            }
        }
    }
}

/// Has a worker do it that others use, too.
async fn by_worker(
    workers: &mpsc::UnboundedSender<Work>,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let (done, answered) = oneshot::channel();
    let work = async move {
        work.await;
        let _ = done.send(());
    };
    workers.send(Box::pin(work)).ok().expect("they live");
    answered.await.expect("it is done");
}

/// Workers that take what anybody wants done.
fn pool() -> mpsc::UnboundedSender<Work> {
    let (sender, receiver) = mpsc::unbounded_channel::<Work>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..8 {
        let receiver = Arc::clone(&receiver);
        task::spawn(async move {
            loop {
                let work = receiver.lock().await.recv().await;
                work.expect("they live").await;
            }
        });
    }
    sender
}

/// The same, whose futures are boxes, and whose handles are kept.
fn boxed_workers() -> mpsc::UnboundedSender<Work> {
    static KEPT: std::sync::Mutex<Vec<JoinHandle<()>>> = std::sync::Mutex::new(Vec::new());
    let (sender, receiver) = mpsc::unbounded_channel::<Work>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..8 {
        let receiver = Arc::clone(&receiver);
        let worker: Work = Box::pin(async move {
            loop {
                let work = receiver.lock().await.recv().await;
                work.expect("they live").await;
            }
        });
        KEPT.lock().expect("not poisoned").push(task::spawn(worker));
    }
    sender
}

/// Workers that come with their first work and stay for others.
async fn stretching(work: impl Future<Output = ()> + Send + 'static) {
    static IDLE: LazyLock<(mpsc::Sender<Work>, Arc<Mutex<mpsc::Receiver<Work>>>)> =
        LazyLock::new(|| {
            let (sender, receiver) = mpsc::channel(1);
            (sender, Arc::new(Mutex::new(receiver)))
        });
    static WAITING: AtomicU32 = AtomicU32::new(0);
    let (done, answered) = oneshot::channel();
    let work: Work = Box::pin(async move {
        work.await;
        let _ = done.send(());
    });
    let taken = WAITING.fetch_update(Relaxed, Relaxed, |waiting| waiting.checked_sub(1)).is_ok();
    if taken {
        IDLE.0.send(work).await.ok().expect("they live");
    } else {
        task::spawn(async move {
            let mut work = work;
            loop {
                work.await;
                WAITING.fetch_add(1, Relaxed);
                work = IDLE.1.lock().await.recv().await.expect("they live");
            }
        });
    }
    answered.await.expect("it is done");
}

/// Has a task do it that does whatever is wanted while it is at it, and ends then. `keeps`: its handle is kept until there is another.
async fn drained(keeps: bool, work: impl Future<Output = ()> + Send + 'static) {
    let (done, answered) = oneshot::channel();
    let work = async move {
        work.await;
        let _ = done.send(());
    };
    want(keeps, Box::pin(work));
    answered.await.expect("it is done");
}

fn want(keeps: bool, work: Work) {
    static WANTED: std::sync::Mutex<(VecDeque<Work>, bool)> =
        std::sync::Mutex::new((VecDeque::new(), false));
    static KEPT: std::sync::Mutex<Option<JoinHandle<()>>> = std::sync::Mutex::new(None);
    let next = || {
        let mut wanted = WANTED.lock().expect("not poisoned");
        wanted.1 = !wanted.0.is_empty();
        wanted.0.pop_front()
    };
    let mut wanted = WANTED.lock().expect("not poisoned");
    wanted.0.push_back(work);
    if std::mem::replace(&mut wanted.1, true) {
        return;
    }
    let drain = task::spawn(async move {
        while let Some(work) = next() {
            work.await;
        }
    });
    if keeps {
        *KEPT.lock().expect("not poisoned") = Some(drain);
    }
}

/// Asks, and gives up after so many microseconds.
async fn gives_up(asks: impl Future<Output = ()>, after: u64) {
    let _ = time::timeout(Duration::from_micros(after), asks).await;
}

async fn sometimes() {
    static SLOW: AtomicU32 = AtomicU32::new(0);
    if SLOW.fetch_add(1, Relaxed) < 8 {
        time::sleep(Duration::from_millis(300)).await;
    }
}

async fn serve(State(other): State<Other>, uri: Uri) -> &'static str {
    let mut parts = uri.path().split('/').skip(1);
    let (how, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = number.parse().expect("a number");
    let (first, second) = (other.first(number), other.second(number));
    match how {
        "turn" | "first" | "second" => {
            first.await;
            second.await;
        }
        "once" => {
            tokio::join!(first, second);
        }
        "spawn" => {
            let (first, second) = (task::spawn(first), task::spawn(second));
            first.await.expect("done");
            second.await.expect("done");
        }
        "raw" => {
            other.raw("first", number).await;
            other.raw("second", number).await;
        }
        "boxed" => {
            if number % 2 == 0 {
                let (first, second): (Work, Work) = (Box::pin(first), Box::pin(second));
                let (first, second) = (task::spawn(first), task::spawn(second));
                first.await.expect("done");
                second.await.expect("done");
            } else {
                static BOXED: LazyLock<mpsc::UnboundedSender<Work>> = LazyLock::new(boxed_workers);
                tokio::join!(by_worker(&BOXED, first), by_worker(&BOXED, second));
            }
        }
        "cancelled" => {
            for at in 0..3 {
                let gone = other.clone().ask("gone", number);
                gives_up(gone, u64::from(number) * 37 % 400 + at * 100).await;
            }
            first.await;
            second.await;
        }
        "drain" | "kept" => {
            let keeps = how == "kept";
            drained(keeps, first).await;
            drained(keeps, second).await;
        }
        "nested" => {
            let nested = task::spawn(async {
                let (first, second) = (task::spawn(first), task::spawn(second));
                first.await.expect("done");
                second.await.expect("done");
            });
            nested.await.expect("done");
        }
        "blocking" => {
            let both = task::spawn_blocking(|| {
                Handle::current().block_on(async {
                    first.await;
                    second.await;
                });
            });
            both.await.expect("done");
        }
        "late" => {
            first.await;
            task::spawn(async {
                time::sleep(Duration::from_millis(3)).await;
                second.await;
            });
        }
        "actor" => {
            by(&other.actor, "first", number).await;
            by(&other.actor, "second", number).await;
        }
        "shared" => {
            static ALL: OnceLock<mpsc::UnboundedSender<Question>> = OnceLock::new();
            let all = ALL.get_or_init(|| {
                let (sender, receiver) = mpsc::unbounded_channel();
                task::spawn(shared(other.port, receiver));
                sender
            });
            tokio::join!(by(all, "first", number), by(all, "second", number));
        }
        "pool" => {
            static POOL: LazyLock<mpsc::UnboundedSender<Work>> = LazyLock::new(pool);
            by_worker(&POOL, first).await;
            sometimes().await;
            by_worker(&POOL, second).await;
        }
        "elastic" => {
            stretching(first).await;
            sometimes().await;
            stretching(second).await;
        }
        "refresh" => {
            static REFRESH: OnceLock<mpsc::UnboundedSender<Question>> = OnceLock::new();
            let refresh = REFRESH.get_or_init(|| {
                let (sender, receiver) = mpsc::unbounded_channel();
                task::spawn(actor(other.port, other.client.clone(), receiver));
                sender
            });
            by(refresh, "first", number).await;
            sometimes().await;
            by(refresh, "second", number).await;
        }
        _ => return "no such way",
    }
    "done"
}

async fn run(port: u16) {
    let client = Client::builder().no_proxy().build().expect("a client");
    let (actor_of_all, questions) = mpsc::unbounded_channel();
    task::spawn(actor(port, client.clone(), questions));
    let other = Other { port, client, actor: actor_of_all };
    let router = Router::new().fallback(serve).with_state(other);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound").port());
    #[cfg(not(feature = "hyper_0_14"))]
    axum::serve(listener, router).await.expect("it serves");
    #[cfg(feature = "hyper_0_14")]
    axum::Server::from_tcp(listener.into_std().expect("a socket"))
        .expect("a server")
        .serve(router.into_make_service())
        .await
        .expect("it serves");
}

fn main() {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let mut builder = match env::args().nth(2).as_deref() {
        Some("current") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // More than there are processors: tasks move between them.
    builder.worker_threads(4).enable_all().build().expect("a runtime").block_on(run(port));
}
