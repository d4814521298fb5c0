//! The worker as the rest of the agent sees it: what it may be asked for, and how.

use std::{future::Future, sync::mpsc, thread::JoinHandle};

use tokio::sync::oneshot;

use super::{books::Books, live::Reload};
use crate::{
    bpf::Waker,
    export::{metrics_data::MetricBatch, prometheus},
    kubernetes::News,
};

/// What the worker is asked to do.
pub(super) enum Order {
    /// Look at every process.
    Scan,
    /// Select this process: the child of `exec`.
    Adopt(u32),
    /// Take what may be taken anew from the configuration.
    Reload(Box<Reload>),
    /// Answer when every order before this one is done, by the TLS thread too.
    Settle(mpsc::Sender<()>),
    /// Something was told of a pod.
    Pod(News),
    /// Hand over the totals.
    Collect(oneshot::Sender<Vec<MetricBatch>>),
    /// Detach, drain, answer with the books, end.
    Stop(mpsc::Sender<Books>),
}

/// The worker as the rest of the agent sees it.
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Of a `thread` that takes the orders at the other end of `orders` when `waker` wakes it.
    pub(super) fn new(orders: mpsc::Sender<Order>, waker: Waker, thread: JoinHandle<()>) -> Self {
        Self { orders, waker, thread }
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
    pub(super) fn pods(&self) -> impl Fn(News) + Send + Sync + use<> {
        let (orders, waker) = (self.orders.clone(), self.waker.clone());
        move |news| {
            // A worker that has ended does not care any more.
            let _ = orders.send(Order::Pod(news));
            waker.wake();
        }
    }

    pub(super) fn source(&self) -> Totals {
        Totals { orders: self.orders.clone(), waker: self.waker.clone() }
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

/// The totals, for scrapes.
pub(super) struct Totals {
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl prometheus::Source for Totals {
    fn collect(&self) -> impl Future<Output = Vec<MetricBatch>> + Send {
        let (answer, batches) = oneshot::channel();
        let _ = self.orders.send(Order::Collect(answer));
        self.waker.wake();
        async move { batches.await.unwrap_or_default() }
    }
}
