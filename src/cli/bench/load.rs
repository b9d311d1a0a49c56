//! The claims themselves, in open loop: each is made when it is due, however the earlier ones fare, and its time counts from then.
//! It must never wait for one claim before it makes the next.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    api::{
        bay::Bay,
        environment::{BayRef, Environment},
        kind::Kind,
    },
    cli::{
        bench::{
            Claims, NAME, NAMESPACE, TELL_EVERY,
            book::{Book, Claim, name_of},
            change_template,
            cost::Writes,
            ground::Ground,
            host, pool,
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
/// Between two questions to the router, and between two looks at the pool.
const ASK_EVERY: Duration = Duration::from_millis(1);
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
    probes: JoinSet<(usize, Duration)>,
    probed: HashSet<usize>,
    http: reqwest::Client,
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
    /// How long the pool took to follow its template, where that was tried.
    pub(super) rolled: Option<Duration>,
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
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        Ok(Self {
            wanted,
            ground,
            book,
            writes: Writes::of(&ground.store).await?,
            news,
            followers,
            posts: JoinSet::new(),
            probes: JoinSet::new(),
            probed: HashSet::new(),
            http: http.build().context("no HTTP client")?,
            roll: Roll::default(),
            began: clock.monotonic(),
        })
    }

    fn now(&self) -> Duration {
        self.ground.core.clock.monotonic()
    }

    /// When a claim is to be made.
    fn due(&self, index: usize) -> Duration {
        if self.wanted.at_once {
            return self.began;
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few claims")]
        let index = index as f64;
        self.began + Duration::from_secs_f64(index / self.wanted.rate)
    }

    /// Makes all claims and watches what comes of them.
    pub(super) async fn run(mut self, printer: &mut Printer) -> anyhow::Result<Loaded> {
        let count = usize::try_from(self.wanted.count).unwrap_or(usize::MAX);
        if self.wanted.roll {
            change_template(self.ground).await?;
        }
        self.began = self.now();
        let mut tell_at = self.began + TELL_EVERY;
        let mut looked_at = self.began;
        let mut served_at = None;
        loop {
            let made = self.book.claims.len();
            let arriving = made < count && self.roll.over.is_none();
            let next = if arriving { self.due(made) } else { looked_at + LOOK };
            let wait = next.saturating_sub(self.now());
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => self.hear(news),
                Some(Ok(done)) = self.posts.join_next() => self.answered(done),
                Some(Ok((index, at))) = self.probes.join_next() => {
                    self.book.claims[index].routable.get_or_insert(at);
                }
                Some(Ok(error)) = self.followers.join_next() => return Err(error.into()),
                () = tokio::time::sleep(wait) => if arriving { self.claim(); },
            }
            let now = self.now();
            if now >= looked_at + LOOK {
                looked_at = now;
                self.look_at_roll().await?;
                let open = self.book.open();
                let is_over = !arriving && open == 0;
                if is_over || now >= self.due(made) + PATIENCE {
                    let since = *served_at.get_or_insert(now);
                    if self.is_settled(now.saturating_sub(since)) {
                        break;
                    }
                }
                if now >= tell_at {
                    tell_at += TELL_EVERY;
                    let (stock, refilled) = (self.book.stock, self.book.refilled.len());
                    printer.note(format_args!(
                        "{made} claims made, {open} under way; {stock} bays ready, {refilled} new"
                    ));
                }
            }
        }
        Ok(self.ended())
    }

    /// Whether there is nothing left to see, so long after the last claim was served.
    fn is_settled(&self, since: Duration) -> bool {
        if self.wanted.roll {
            return self.roll.over.is_some();
        }
        let hits = self.book.claims.iter().filter(|it| self.book.is_hit(it)).count();
        self.book.refilled.len() >= hits || since >= REFILL_WATCHED
    }

    fn ended(mut self) -> Loaded {
        for claim in &mut self.book.claims {
            if claim.failed.is_none() && claim.ready.is_none() {
                claim.failed = Some("it was not served in time".to_owned());
            }
        }
        let served = self.book.claims.iter().filter_map(|it| it.routable.max(it.ready)).max();
        let bays = self.book.claims.iter().map(|it| it.bay.clone().unwrap_or_default());
        let bays: Vec<_> = bays.collect();
        Loaded {
            writes: self.writes.of_claims(&bays),
            took: served.unwrap_or(self.began).saturating_sub(self.began),
            rolled: self.roll.over.map(|at| at.saturating_sub(self.began)),
            book: self.book,
        }
    }

    /// Makes the next claim, or all of them.
    fn claim(&mut self) {
        let count = usize::try_from(self.wanted.count).unwrap_or(usize::MAX);
        let now = self.now();
        loop {
            let index = self.book.claims.len();
            let due = self.due(index);
            if index >= count || due > now {
                return;
            }
            self.book.claims.push(Claim { due, ..Claim::default() });
            let client = self.ground.client.clone();
            let clock = self.ground.core.clock.clone();
            self.posts.spawn(async move {
                let environment = environment(&name_of(index));
                let made = client.create(Kind::Environment, NAMESPACE, &environment, false).await;
                (index, clock.monotonic(), made.map(|_| ()))
            });
        }
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
                    let (http, router) = (self.http.clone(), self.ground.router);
                    let clock = self.ground.core.clock.clone();
                    self.probes.spawn(async move {
                        let url = format!("http://{router}/");
                        while !is_routed(&http, &url, (index, &bay)).await {
                            tokio::time::sleep(ASK_EVERY).await;
                        }
                        (index, clock.monotonic())
                    });
                }
            }
            News::Bay(at, bay) => self.book.bay(&bay, at),
            News::BayGone(name) => self.book.bay_gone(&name),
        }
    }

    /// Whether the pool has followed its template.
    async fn look_at_roll(&mut self) -> anyhow::Result<()> {
        if !self.wanted.roll || self.roll.over.is_some() {
            return Ok(());
        }
        let status = pool(self.ground).await?.status;
        self.roll.began |= status.outdated > 0;
        let is_over = status.outdated == 0 && status.ready == self.wanted.pool();
        if self.roll.began && is_over {
            self.roll.over = Some(self.now());
        }
        Ok(())
    }
}

/// Whether the router has a request replayed by this machine.
async fn is_routed(http: &reqwest::Client, url: &str, (index, bay): (usize, &BayRef)) -> bool {
    let asked = http.get(url).header(reqwest::header::HOST, host(&name_of(index))).send().await;
    let Ok(answer) = asked else { return false };
    let replay = answer.headers().get("fly-replay").and_then(|it| it.to_str().ok());
    let app = format!("app={};", bay.app);
    let is_routed = answer.status().is_success() && replay.is_some_and(|it| it.starts_with(&app));
    // Read to its end, so that the connection can be used again.
    answer.bytes().await.is_ok() && is_routed
}

fn environment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "templateRef": {"name": NAME}, "access": "Public", "owner": name,
            "env": {"GREETING": format!("hello, {name}")},
        },
    })
}

/// Tells every change of a kind, for ever; from a new list where the watch fell behind.
async fn follow<T: Watched>(
    client: Client,
    kind: Kind,
    clock: std::sync::Arc<dyn Clock>,
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
