//! The claims themselves, in open loop: each is made when it is due, however the earlier ones fare, and its time counts from then.
//! It must never wait for one claim before it makes the next.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future;
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::{
    api::{kind::Kind, pool::WarmPool},
    cli::{
        bench::{
            Claims, NAME, NAMESPACE, TELL_EVERY,
            book::{Book, Claim, name_of},
            change_template,
            cost::{Meter, Writes, Yardsticks},
            ground::Ground,
            host, pool,
            probe::Prober,
            seen::{Bay, Environment, Order},
        },
        printer::Printer,
    },
    client::{self, Client, Query, WatchEvent, Watched},
    clock::Clock,
    retry,
};

/// How long the last claim may take.
const PATIENCE: Duration = Duration::from_mins(15);
/// How long it is watched after the claims how the pool is filled up again.
const REFILL_WATCHED: Duration = Duration::from_secs(10);
/// A thread that slept is late by about so much.
const AWAKE_BEFORE: Duration = Duration::from_micros(300);
/// Connections to the API.
const CONNECTIONS: usize = 64;
/// Between two looks at the pool.
const LOOK: Duration = Duration::from_millis(100);

/// Something that was seen.
enum News {
    Environment(Duration, Box<Environment>),
    Bay(Duration, Box<Bay>),
    BayGone(String),
}

/// A change of the pool's template, and its end.
#[derive(Debug, Default)]
struct Roll {
    began: bool,
    over: Option<Duration>,
}

/// A load under way.
pub(super) struct Load<'a> {
    wanted: &'a Claims,
    ground: &'a Ground,
    book: Book,
    writes: Writes,
    news: mpsc::UnboundedReceiver<News>,
    followers: JoinSet<client::Error>,
    posts: JoinSet<(usize, Duration, Result<(), client::Error>)>,
    /// Whoever makes many claims has so many connections, and not one for each.
    connections: Arc<Semaphore>,
    prober: Prober,
    probes: JoinSet<(usize, Duration)>,
    probed: HashSet<usize>,
    roll: Roll,
    began: Duration,
}

/// What came of it.
pub(super) struct Loaded {
    pub(super) book: Book,
    /// Commits and objects written for the claims, if all were seen.
    pub(super) writes: Option<(usize, usize)>,
    /// From the first claim to the last that is served.
    pub(super) took: Duration,
    /// Taken in between, where the claims did not come at once.
    pub(super) between: Option<Yardsticks>,
    /// How long the pool took to follow its template, where that was tried.
    pub(super) rolled: Option<Duration>,
    /// What was counted when the last claim was served.
    pub(super) used: Meter,
}

impl<'a> Load<'a> {
    pub(super) async fn new(wanted: &'a Claims, ground: &'a Ground) -> anyhow::Result<Self> {
        let (tell, mut news) = mpsc::unbounded_channel();
        let mut followers = JoinSet::new();
        let (client, clock) = (&ground.client, &ground.core.clock);
        let told = tell.clone();
        followers.spawn(follow(client.clone(), Kind::Environment, clock.clone(), move |at, it| {
            if let WatchEvent::Added(it) | WatchEvent::Modified(it) = it {
                let _unheard = told.send(News::Environment(at, Box::new(it)));
            }
        }));
        followers.spawn(follow(
            client.clone(),
            Kind::Bay,
            clock.clone(),
            move |at, it: WatchEvent<Bay>| {
                let _unheard = match it {
                    WatchEvent::Added(it) | WatchEvent::Modified(it) => {
                        tell.send(News::Bay(at, Box::new(it)))
                    }
                    WatchEvent::Deleted(it) => tell.send(News::BayGone(it.metadata.name)),
                    WatchEvent::Bookmark(_) => Ok(()),
                };
            },
        ));
        let mut book = Book::default();
        let stock = usize::try_from(wanted.pool()).unwrap_or(usize::MAX);
        while book.stock < stock {
            match news.recv().await {
                Some(News::Bay(at, bay)) => book.bay(&bay, at),
                Some(News::Environment(..) | News::BayGone(_)) => {}
                None => anyhow::bail!("the bays cannot be watched"),
            }
        }
        book.start();
        Ok(Self {
            wanted,
            ground,
            book,
            writes: Writes::of(&ground.store).await?,
            news,
            followers,
            posts: JoinSet::new(),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            prober: Prober::new(ground.router)?,
            probes: JoinSet::new(),
            probed: HashSet::new(),
            roll: Roll::default(),
            began: clock.monotonic(),
        })
    }

    fn now(&self) -> Duration {
        self.ground.core.clock.monotonic()
    }

    /// Makes all claims and watches what comes of them; beside them it is measured what the machine takes for the parts of a claim.
    pub(super) async fn run(self, printer: &mut Printer) -> anyhow::Result<Loaded> {
        if self.wanted.roll {
            change_template(self.ground).await?;
        }
        self.connect().await?;
        let (ground, count) = (self.ground, self.wanted.count);
        let Some(interval) = interval(self.wanted) else {
            return self.claims(printer).await;
        };
        let mut yardsticks = Yardsticks::default();
        let beside = async {
            yardsticks.between(ground, interval, count).await;
            future::pending().await
        };
        let loaded: Loaded = tokio::select! {
            loaded = self.claims(printer) => loaded?,
            never = beside => never,
        };
        Ok(Loaded { between: Some(yardsticks), ..loaded })
    }

    async fn claims(mut self, printer: &mut Printer) -> anyhow::Result<Loaded> {
        self.began = self.now();
        let mut due = arrivals(self.wanted, &self.ground.core.clock, self.began)?;
        let mut arriving = true;
        let mut look = tokio::time::interval(LOOK);
        let mut tell_at = self.began + TELL_EVERY;
        let mut served = None;
        let used = loop {
            tokio::select! {
                biased;
                at = due.recv(), if arriving => match at {
                    Some(at) if self.roll.over.is_none() => self.claim(at),
                    Some(_) | None => arriving = false,
                },
                Some(Ok(done)) = self.posts.join_next() => self.answered(done),
                Some(Ok((index, at))) = self.probes.join_next() => {
                    self.book.claims[index].routable.get_or_insert(at);
                }
                Some(Ok(error)) = self.followers.join_next() => return Err(error.into()),
                Some(news) = self.news.recv() => self.hear(news),
                _ = look.tick() => {
                    self.look_at_roll().await;
                    if !arriving && self.is_over() {
                        // What is watched after that is no part of what the claims cost.
                        let at = || (Meter::read(&self.ground.core), self.now());
                        let (used, since) = *served.get_or_insert_with(at);
                        if self.is_settled(self.now().saturating_sub(since)) {
                            break used;
                        }
                    }
                    if self.now() >= tell_at {
                        tell_at += TELL_EVERY;
                        printer.note(self.progress());
                    }
                }
            }
        };
        Ok(self.ended(used))
    }

    /// Opens the connections.
    async fn connect(&self) -> anyhow::Result<()> {
        let at_once = if self.wanted.at_once { CONNECTIONS } else { 1 };
        let requests = (0..at_once).map(|_| self.ground.client.version());
        future::try_join_all(requests).await?;
        self.prober.connect().await;
        Ok(())
    }

    fn progress(&self) -> String {
        let (made, open) = (self.book.claims.len(), self.book.open());
        let (stock, new) = (self.book.stock, self.book.refilled.len());
        format!("{made} claims made, {open} under way; {stock} bays ready, {new} new")
    }

    /// Whether every claim is served or refused, or has had its time.
    fn is_over(&self) -> bool {
        let last = self.book.claims.last().map_or(self.began, |it| it.due);
        self.book.open() == 0 || self.now() >= last + PATIENCE
    }

    /// Whether there is nothing left to see, so long after the last claim was served.
    fn is_settled(&self, since: Duration) -> bool {
        if self.wanted.roll {
            return self.roll.over.is_some();
        }
        let hits = self.book.claims.iter().filter(|it| self.book.is_hit(it)).count();
        self.book.refilled.len() >= hits || since >= REFILL_WATCHED
    }

    fn ended(mut self, used: Meter) -> Loaded {
        for claim in &mut self.book.claims {
            if claim.failed.is_none() && claim.ready.is_none() {
                claim.failed = Some("it was not served in time".to_owned());
            }
        }
        let served = self.book.claims.iter().filter_map(|it| it.routable.max(it.ready)).max();
        let bays = self.book.claims.iter().map(|it| it.bay.clone().unwrap_or_default());
        let bays: Vec<_> = bays.collect();
        Loaded {
            between: None,
            writes: self.writes.of_claims(&bays),
            took: served.unwrap_or(self.began).saturating_sub(self.began),
            rolled: self.roll.over.map(|at| at.saturating_sub(self.began)),
            used,
            book: self.book,
        }
    }

    /// Makes the next claim.
    fn claim(&mut self, due: Duration) {
        let index = self.book.claims.len();
        self.book.claims.push(Claim { due, ..Claim::default() });
        let client = self.ground.client.clone();
        let clock = self.ground.core.clock.clone();
        let is_plain = self.wanted.plain;
        let connections = Arc::clone(&self.connections);
        self.posts.spawn(async move {
            let _connection = connections.acquire().await;
            let environment = environment(&name_of(index), is_plain);
            let made = client.create(Kind::Environment, NAMESPACE, &environment, false).await;
            (index, clock.monotonic(), made.map(|_| ()))
        });
    }

    fn answered(&mut self, (index, at, made): (usize, Duration, Result<(), client::Error>)) {
        let claim = &mut self.book.claims[index];
        match made {
            Ok(()) => claim.durable = Some(at),
            Err(error) => claim.failed = Some(retry::chain(&error)),
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Environment(at, environment) => {
                let Some((index, bay)) = self.book.environment(&environment, at) else { return };
                if self.probed.insert(index) {
                    let (prober, clock) = (self.prober.clone(), self.ground.core.clock.clone());
                    self.probes.spawn(async move {
                        prober.routed(&host(&name_of(index)), &bay.app).await;
                        (index, clock.monotonic())
                    });
                }
            }
            News::Bay(at, bay) => self.book.bay(&bay, at),
            News::BayGone(name) => self.book.bay_gone(&name),
        }
    }

    /// Whether the pool has followed its template.
    async fn look_at_roll(&mut self) {
        if !self.wanted.roll || self.roll.over.is_some() {
            return;
        }
        // What cannot be asked now is asked again in a moment.
        let Ok(WarmPool { status, .. }) = pool(self.ground).await else { return };
        self.roll.began |= status.outdated > 0;
        if self.roll.began && status.outdated == 0 {
            self.roll.over = Some(self.now());
        }
    }
}

/// Between one claim and the next, if they do not come at once.
fn interval(wanted: &Claims) -> Option<Duration> {
    (!wanted.at_once).then(|| Duration::from_secs_f64(1.0 / wanted.rate))
}

/// Tells of each claim when it is due. A thread of its own that is awake a little before is on time; the runtime's timers have whole
/// milliseconds.
fn arrivals(
    wanted: &Claims,
    clock: &Arc<dyn Clock>,
    began: Duration,
) -> anyhow::Result<mpsc::UnboundedReceiver<Duration>> {
    let (tell, due) = mpsc::unbounded_channel();
    let interval = interval(wanted).unwrap_or_default();
    let (count, clock) = (wanted.count, Arc::clone(clock));
    let run = move || {
        for index in 0..count {
            let due = began + interval * index;
            std::thread::sleep(due.saturating_sub(clock.monotonic() + AWAKE_BEFORE));
            while clock.monotonic() < due {
                std::hint::spin_loop();
            }
            if tell.send(due).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("arrivals".to_owned()).spawn(run).context("no thread")?;
    Ok(due)
}

fn environment(name: &str, is_plain: bool) -> Order {
    let env = if is_plain { json!({}) } else { json!({"GREETING": format!("hello, {name}")}) };
    let template = json!({"name": NAME});
    Order {
        metadata: json!({"name": name}),
        spec: json!({"templateRef": template, "access": "Public", "owner": name, "env": env}),
    }
}

/// Tells every change of a kind, for ever; from a new list where the watch fell behind.
async fn follow<T: Watched>(
    client: Client,
    kind: Kind,
    clock: Arc<dyn Clock>,
    tell: impl Fn(Duration, WatchEvent<T>),
) -> client::Error {
    loop {
        let listed = client.list::<T>(kind, Some(NAMESPACE), &Query::default()).await;
        let list = match listed {
            Ok(list) => list,
            Err(error) => return error,
        };
        let after = list.metadata.resource_version;
        list.items.into_iter().for_each(|it| tell(clock.monotonic(), WatchEvent::Added(it)));
        let watch = client.watch(kind, Some(NAMESPACE), &Query::default(), Some(&after)).await;
        let mut changes = match watch {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        while let Ok(Some(change)) = changes.next().await {
            tell(clock.monotonic(), change);
        }
    }
}
