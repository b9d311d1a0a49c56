//! LEAF. A named set of tasks that the process cannot live without: the first one to end brings the others down.
//! It must never know what a task does.

use std::{fmt, future::Future, time::Duration};

use tokio::{sync::watch, task::JoinSet};

/// Tells a task that the process wants to end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Returns once shutdown was asked for (at once if it was before).
    pub async fn wait(&mut self) {
        // A dropped sender means that nobody is left who could ask: the process is going.
        let _ended = self.0.wait_for(|asked| *asked).await;
    }

    /// Whether shutdown was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        *self.0.borrow()
    }
}

/// Asks for shutdown. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trigger(std::sync::Arc<watch::Sender<bool>>);

impl Trigger {
    /// Asks every task to end.
    pub fn shut_down(&self) {
        self.0.send_replace(true);
    }

    /// Returns when nobody is left who could hear it.
    pub async fn unheard(&self) {
        self.0.closed().await;
    }
}

/// A pair of the two ends, for code that runs without a [`Set`].
#[must_use]
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(std::sync::Arc::new(sender)), Shutdown(receiver))
}

/// Named tasks that live and die together.
pub struct Set {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    trigger: Trigger,
    shutdown: Shutdown,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Set {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        let (trigger, shutdown) = shutdown();
        Self { tasks: JoinSet::new(), trigger, shutdown }
    }

    /// What the tasks of this set listen to.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// What ends the tasks of this set.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    /// Starts a task. It ends by itself after [`Shutdown::wait`]; an earlier end is taken for a failure of the process.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Runs until a task ends or shutdown is asked for, then gives the rest `drain` to end.
    ///
    /// # Errors
    /// The first task's error, or that a task ended, panicked or did not end in time.
    pub async fn run(mut self, drain: Duration) -> anyhow::Result<()> {
        let mut shutdown = self.shutdown.clone();
        let mut result = tokio::select! {
            () = shutdown.wait() => Ok(()),
            Some(ended) = self.tasks.join_next() => Self::judge(ended, self.shutdown.asked()),
        };
        self.trigger.shut_down();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                let judged = Self::judge(ended, true);
                if result.is_ok() {
                    result = judged;
                }
            }
        };
        if tokio::time::timeout(drain, rest).await.is_err() {
            self.tasks.abort_all();
            if result.is_ok() {
                result = Err(anyhow::anyhow!("some tasks did not end within {drain:?}"));
            }
        }
        result
    }

    fn judge(
        ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
        expected: bool,
    ) -> anyhow::Result<()> {
        match ended {
            Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
            Ok((_, Ok(()))) if expected => Ok(()),
            Ok((name, Ok(()))) => Err(anyhow::anyhow!("{name} ended by itself")),
            Err(error) => Err(anyhow::Error::new(error).context("a task died")),
        }
    }
}

/// Runs a closure that blocks (a file, a child process) off the async threads.
///
/// # Errors
/// If the closure panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// Starts a task that belongs to one connection or one request and may die with it.
///
/// Whatever the process cannot live without goes into a [`Set`] instead.
#[expect(clippy::disallowed_methods, reason = "the one place for work that nothing waits for")]
pub fn detached<F>(task: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(task);
}
