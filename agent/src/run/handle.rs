//! The worker as the rest of the agent sees it: what it may be asked for, and how.

use std::{future::Future, path::PathBuf, sync::mpsc, thread::JoinHandle};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{books::Books, live::Reload, snapshot::Snapshot};
use crate::{bpf::Waker, export::prometheus, kubernetes::ClusterUpdate, metrics_data::MetricBatch};

/// What the worker is asked to do.
pub(super) enum Order {
    /// Look at every process.
    Scan,
    /// Select this process, the child of `exec`, which will become this executable.
    Adopt(u32, Option<PathBuf>),
    /// The runtime of this process moves work between threads and is not followed.
    MovesWork(u32),
    /// Take what may be taken anew from the configuration.
    Reload(Box<Reload>),
    /// Answer when every order before this one is done, by the TLS thread too.
    Settle(mpsc::Sender<()>),
    /// Something was told of the cluster.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nobody tells of pods"))]
    Cluster(ClusterUpdate),
    /// Answer.
    Answer(oneshot::Sender<()>),
    /// Hand over the totals.
    Collect(oneshot::Sender<Vec<MetricBatch>>),
    /// Hand over the agent's own metrics.
    Own(oneshot::Sender<MetricBatch>),
    /// Tell what is known.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Detach, drain, answer with the books, end.
    Stop(mpsc::Sender<Books>),
}

/// The worker as the rest of the agent sees it.
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    thread: JoinHandle<()>,
    ended: CancellationToken,
}

impl Handle {
    /// Of a `thread` that takes the orders at the other end of `orders` when `waker` wakes it, and cancels
    /// `ended` at its end.
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        waker: Waker,
        thread: JoinHandle<()>,
        ended: CancellationToken,
    ) -> Self {
        Self { orders, waker, thread, ended }
    }

    /// Gives an order. A worker that has ended (it panicked) takes none; [`Self::stop`] will tell.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.waker.wake();
    }

    /// Waits until all orders so far are done.
    pub(super) fn settle(&self) {
        let (done, wait) = mpsc::channel();
        self.order(Order::Settle(done));
        let _ = wait.recv();
    }

    /// Where to tell of pods.
    #[cfg(feature = "kubernetes")]
    pub(super) fn pods(&self) -> impl Fn(ClusterUpdate) + Send + Sync + use<> {
        let (orders, waker) = (self.orders.clone(), self.waker.clone());
        move |update| {
            // A worker that has ended does not care any more.
            let _ = orders.send(Order::Cluster(update));
            waker.wake();
        }
    }

    /// Waits until the worker has ended, though nobody asked it to.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn questions(&self) -> Questions {
        Questions { orders: self.orders.clone(), waker: self.waker.clone() }
    }

    /// Detaches and drains; afterwards no span comes any more.
    pub(super) fn stop(self) -> Books {
        let (answer, books) = mpsc::channel();
        self.order(Order::Stop(answer));
        let books = books.recv();
        let ended = self.thread.join();
        books.ok().filter(|_| ended.is_ok()).unwrap_or_else(|| {
            tracing::error!("the worker thread has panicked; its books are lost");
            Books::default()
        })
    }
}

/// Asks the worker.
pub(super) struct Questions {
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl Questions {
    /// Its answer; `None` where it has ended.
    pub(super) fn ask<T>(
        &self,
        order: fn(oneshot::Sender<T>) -> Order,
    ) -> impl Future<Output = Option<T>> + use<T> {
        let (answer, awaited) = oneshot::channel();
        let _ = self.orders.send(order(answer));
        self.waker.wake();
        async move { awaited.await.ok() }
    }

    /// Waits until the worker has done every order so far; `false` if it has ended.
    pub(super) async fn answers(&self) -> bool {
        self.ask(Order::Answer).await.is_some()
    }
}

/// The totals, for scrapes.
pub(super) struct Totals(pub(super) Questions);

impl prometheus::Source for Totals {
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send {
        let totals = self.0.ask(Order::Collect);
        async move { totals.await.unwrap_or_default() }
    }
}
