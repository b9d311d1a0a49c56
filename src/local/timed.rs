//! A driver around another one that takes as long over each step as Fly was seen to. For load tests. It must never do anything
//! else than wait.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::local::driver::{
    Driver, Error, Executed, Image, Interactive, Isolation, Lines, LogLine, Process, Session, Spec,
    Status, Stream, Wanted,
};

/// How long each step takes: from the fastest to the slowest machine. Which machine is how fast its id says, so that it is
/// every time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    /// From the creation of a machine to its first start: the image is fetched and unpacked.
    pub image: Duration,
    /// From a start to a running program.
    pub start: RangeInclusive<Duration>,
    /// From a start of what was suspended to a running program.
    pub resume: RangeInclusive<Duration>,
    /// Freezing a machine.
    pub suspend: RangeInclusive<Duration>,
    /// A command in a running machine, beside what the command itself takes.
    pub exec: RangeInclusive<Duration>,
}

impl Durations {
    /// Everything at once.
    pub const INSTANT: Self = Self {
        image: Duration::ZERO,
        start: Duration::ZERO..=Duration::ZERO,
        resume: Duration::ZERO..=Duration::ZERO,
        suspend: Duration::ZERO..=Duration::ZERO,
        exec: Duration::ZERO..=Duration::ZERO,
    };

    /// As Fly's documentation has it: a first creation takes "low double digit seconds", most of it for the image; a boot 300 ms, and
    /// the start of a stopped machine "well under a second"; a resume "a few hundred ms"; an exec into a running machine 1 to 2 s. Of a
    /// suspension it says only what large memories take.
    #[must_use]
    pub fn as_on_fly() -> Self {
        let ms = Duration::from_millis;
        Self {
            image: Duration::from_secs(9),
            start: ms(300)..=ms(800),
            resume: ms(100)..=ms(500),
            suspend: ms(500)..=ms(1_500),
            exec: ms(1_000)..=ms(2_000),
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct Timed {
    inner: Arc<dyn Driver>,
    durations: Mutex<Durations>,
}

impl Timed {
    /// Does what the other one does, after these durations.
    #[must_use]
    pub fn new(inner: Arc<dyn Driver>, durations: Durations) -> Self {
        Self { inner, durations: Mutex::new(durations) }
    }

    /// What begins from now on takes this long.
    pub fn set(&self, durations: Durations) {
        *self.durations.lock().unwrap_or_else(PoisonError::into_inner) = durations;
    }

    fn durations(&self) -> Durations {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pause(range: RangeInclusive<Duration>, id: &str) {
    let [first, second, ..] = *blake3::hash(id.as_bytes()).as_bytes();
    let share = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
    let time = *range.start() + (range.end().saturating_sub(*range.start())).mul_f64(share);
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Driver for Timed {
    fn isolation(&self) -> Isolation {
        self.inner.isolation()
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image, Error>> {
        Box::pin(async move {
            let image = self.inner.image(reference).await?;
            Ok(Image { prepare: image.prepare + self.durations().image, ..image })
        })
    }

    fn start<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            pause(self.durations().start, &spec.id).await;
            self.inner.start(spec).await
        })
    }

    fn stop<'a>(
        &'a self,
        id: &'a str,
        signal: Option<&'a str>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.stop(id, signal, timeout)
    }

    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.signal(id, signal)
    }

    fn suspend<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            pause(self.durations().suspend, id).await;
            self.inner.suspend(id).await
        })
    }

    fn resume<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            pause(self.durations().resume, id).await;
            self.inner.resume(id).await
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        argv: &'a [String],
        stdin: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, Error>> {
        Box::pin(async move {
            pause(self.durations().exec, id).await;
            self.inner.exec(id, argv, stdin, timeout).await
        })
    }

    fn open<'a>(
        &'a self,
        id: &'a str,
        command: &'a Interactive,
    ) -> BoxFuture<'a, Result<Session, Error>> {
        self.inner.open(id, command)
    }

    fn output<'a>(&'a self, id: &'a str, wanted: Wanted) -> BoxFuture<'a, Result<Lines, Error>> {
        self.inner.output(id, wanted)
    }

    fn status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Status> {
        self.inner.status(id)
    }

    fn changed<'a>(
        &'a self,
        id: &'a str,
        known: &'a Status,
        timeout: Duration,
    ) -> BoxFuture<'a, Status> {
        self.inner.changed(id, known, timeout)
    }

    fn dial<'a>(&'a self, id: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>, Error>> {
        self.inner.dial(id, port)
    }

    fn processes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Process>, Error>> {
        self.inner.processes(id)
    }

    fn logs<'a>(&'a self, id: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<LogLine>, Error>> {
        self.inner.logs(id, limit)
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::norun::NoRun;

    #[tokio::test(start_paused = true)]
    async fn a_command_takes_as_long_as_it_does_at_fly_and_the_same_every_time() {
        let driver = Timed::new(Arc::new(NoRun::new()), Durations::as_on_fly());
        let timed = async || {
            let began = tokio::time::Instant::now();
            let ran = driver.exec("m1", &["true".to_owned()], b"", Duration::from_secs(9)).await;
            assert!(matches!(ran, Err(Error::NotRunning { .. })));
            began.elapsed().as_millis()
        };
        let (first, second) = (timed().await, timed().await);
        assert!((1_000..=2_000).contains(&first), "{first}");
        assert_eq!(first, second);
        driver.set(Durations::INSTANT);
        assert_eq!(timed().await, 0);
    }
}
