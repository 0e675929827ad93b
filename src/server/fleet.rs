//! Several models behind one address, each with a worker of its own. The worker starts when a request names the model.
//! It leaves when nobody has asked for a while, or when another model needs its place.

mod front;
mod held_body;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use futures_util::future::select_all;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use hyper_util::server::graceful::GracefulShutdown;

use super::body::Bodies;
use super::client::{Client, Launch, State};
use super::connections::{Listeners, Order, WORKER_LEAVES, accept, runtime, signals};
use super::error::{ApiError, ApiResult, Type};
use super::keys::Keys;
use super::notify::Systemd;
use super::routes::router;
use super::settings::Settings;
use super::state::{App, Shared};
use crate::error::Result;

/// One model of several. All have the same address, keys, origins and limits; the first one's are used.
#[derive(Clone)]
pub struct Member {
    /// With the model's name as `alias`.
    pub settings: Settings,
    pub launch: Arc<dyn Launch>,
}

/// How long models stay.
#[derive(Debug, Clone, Copy)]
pub struct Residence {
    /// Models in memory at once, from 1.
    pub loaded: usize,
    /// Time without a request after which a model is unloaded; `None` keeps it until another needs its place.
    pub idle: Option<Duration>,
}

/// Server of several models.
pub struct FleetServer {
    listeners: Listeners,
    fleet: Arc<Fleet>,
}

/// Models, and those of them that are loaded.
pub(super) struct Fleet {
    members: Vec<Member>,
    residence: Residence,
    residents: Mutex<Residents>,
    keys: Keys,
    bodies: Bodies,
    /// Requests that may wait for a model.
    waiting: Semaphore,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Residents {
    /// The one that was asked last stands last.
    here: Vec<Resident>,
    /// Workers on their way out: their memory is taken until they are gone.
    leaving: Vec<JoinHandle<()>>,
}

struct Resident {
    member: usize,
    app: Shared,
    router: Router,
    usage: watch::Sender<Usage>,
}

/// Requests under way, and when the last of them ended.
#[derive(Clone, Copy)]
struct Usage {
    requests: usize,
    since: Instant,
}

/// Keeps a model loaded for one request.
pub(super) struct Lease(watch::Sender<Usage>);

impl Lease {
    fn new(usage: &watch::Sender<Usage>) -> Self {
        usage.send_modify(|usage| usage.requests += 1);
        Self(usage.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.send_modify(|usage| *usage = Usage { requests: usage.requests - 1, since: Instant::now() });
    }
}

impl Resident {
    fn is_idle(&self) -> bool {
        self.usage.borrow().requests == 0
    }
}

impl Residents {
    /// Ends the worker of a model. The task goes on if the request that asked for it is gone.
    fn unload(&mut self, index: usize) {
        let Resident { app, .. } = self.here.remove(index);
        tracing::info!("{}: unloaded", app.model_name());
        self.leaving.push(tokio::spawn(async move { app.client.leave(WORKER_LEAVES).await }));
    }

    /// Waits until the workers that were told to leave are gone.
    async fn gone(&mut self) {
        while let Some(handle) = self.leaving.last_mut() {
            // An aborted task's worker is killed with its handle.
            let _ = handle.await;
            self.leaving.pop();
        }
    }

    /// Makes room for one more of `most` models: those that nobody uses leave, the longest unused first. Waits for the
    /// end of answers if all are used.
    async fn make_room(&mut self, most: usize) {
        while self.here.len() >= most.max(1) {
            let idle = self.here.iter().position(Resident::is_idle);
            if let Some(index) = idle {
                self.unload(index);
                continue;
            }
            let mut usages: Vec<_> = self.here.iter().map(|one| one.usage.subscribe()).collect();
            let ends = usages.iter_mut().map(|usage| Box::pin(usage.wait_for(|usage| usage.requests == 0)));
            // The senders live in the residents, so that waiting does not fail.
            let _ = select_all(ends).await;
        }
        self.gone().await;
    }
}

impl Fleet {
    fn new(members: Vec<Member>, residence: Residence) -> Self {
        let own = &members[0].settings;
        let places = (own.parallel + own.queue).max(1) as usize;
        Self {
            keys: Keys::new(&own.api_keys, own.share_cache),
            bodies: Bodies::new(places, &own.bounds),
            waiting: Semaphore::new(places),
            residents: Mutex::default(),
            stop: watch::Sender::new(false),
            residence,
            members,
        }
    }

    fn settings(&self) -> &Settings {
        &self.members[0].settings
    }

    fn name(&self, member: usize) -> &str {
        self.members[member].settings.alias.as_deref().unwrap_or_default()
    }

    /// Resolves once the server is told to stop.
    async fn stopping(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Returns the model of that name; without a name, the first.
    fn find(&self, name: Option<&str>) -> ApiResult<usize> {
        let Some(name) = name else { return Ok(0) };
        let names = || (0..self.members.len()).map(|member| self.name(member));
        // Ollama's clients write the default tag.
        let short = name.strip_suffix(":latest").unwrap_or(name);
        names().position(|own| own == name || own == short).ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            let names = names().collect::<Vec<_>>().join(", ");
            ApiError::new(Type::NotFound, format!("the model `{name}` is not served here; there are {names}"))
        })
    }

    /// Returns the routes of a model, loaded, and the lease that keeps it so. Requests take their turn in the order in
    /// which they came, so that none for one model waits for ever behind those for another.
    ///
    /// # Errors
    /// 429 if too many wait, 503 if the server stops, 500 if the model cannot be loaded.
    async fn enter(&self, member: usize) -> ApiResult<(Router, Lease)> {
        let full = || {
            ApiError::new(Type::RateLimit, "too many requests wait for a model (--queue); try again later")
                .retry_after(2)
        };
        let _place = self.waiting.try_acquire().map_err(|_| full())?;
        tokio::select! {
            biased;
            () = self.stopping() => Err(ApiError::stopping()),
            entered = self.load(member) => entered,
        }
    }

    async fn load(&self, member: usize) -> ApiResult<(Router, Lease)> {
        let mut residents = self.residents.lock().await;
        residents.here.retain(|one| !matches!(one.app.client.state(), State::Failed(_) | State::Ended));
        let one = match residents.here.iter().position(|one| one.member == member) {
            Some(index) => residents.here.remove(index),
            None => {
                residents.make_room(self.residence.loaded).await;
                self.resident(member)?
            }
        };
        let (lease, router, app) = (Lease::new(&one.usage), one.router.clone(), Shared::clone(&one.app));
        residents.here.push(one);
        // Requests for models that are loaded go on meanwhile.
        drop(residents);
        let mut states = app.client.watch();
        let state = states.wait_for(|state| !matches!(state, State::Loading(_))).await;
        match state.as_deref() {
            Ok(State::Failed(error)) => {
                Err(ApiError::new(Type::Server, format!("{} cannot be loaded: {error}", self.name(member))))
            }
            _ => Ok((router, lease)),
        }
    }

    fn resident(&self, member: usize) -> ApiResult<Resident> {
        let Member { settings, launch } = self.members[member].clone();
        tracing::info!("{}: loading", self.name(member));
        let client = Client::start(launch, settings.patience);
        let app =
            App::new(settings, client).map_err(|error| ApiError::new(Type::Server, error.to_string()))?;
        let app = Arc::new(app);
        let usage = watch::Sender::new(Usage { requests: 0, since: Instant::now() });
        Ok(Resident { member, router: router(Shared::clone(&app)), app, usage })
    }

    /// Unloads models that nobody asks, as long as the server runs.
    async fn unload_idle(&self) {
        let Some(idle) = self.residence.idle else { return };
        let mut ticks =
            tokio::time::interval(idle.clamp(Duration::from_millis(20), Duration::from_secs(2)) / 2);
        loop {
            ticks.tick().await;
            let mut residents = self.residents.lock().await;
            let unused = |one: &Resident| one.is_idle() && one.usage.borrow().since.elapsed() >= idle;
            while let Some(index) = residents.here.iter().position(unused) {
                residents.unload(index);
            }
        }
    }

    async fn leave(&self) {
        let mut residents = self.residents.lock().await;
        while !residents.here.is_empty() {
            residents.unload(0);
        }
        residents.gone().await;
    }
}

/// Serves several models, as [`super::serve`] does one.
///
/// # Errors
/// An address that cannot be listened on.
pub fn serve_several(members: Vec<Member>, residence: Residence) -> Result<()> {
    runtime()?.block_on(async {
        let orders = signals()?;
        let server = FleetServer::start(members, residence).await?;
        server.listeners.announce()?;
        server.run(orders).await;
        Ok(())
    })
}

impl FleetServer {
    /// Listens. No model is loaded before a request names one.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for an address that cannot be listened on.
    ///
    /// # Panics
    /// Without members.
    pub async fn start(members: Vec<Member>, residence: Residence) -> Result<Self> {
        let listeners = Listeners::bind(&members[0].settings).await?;
        Ok(Self { listeners, fleet: Arc::new(Fleet::new(members, residence)) })
    }

    /// The first of the addresses.
    ///
    /// # Errors
    /// The system's own.
    pub fn address(&self) -> Result<std::net::SocketAddr> {
        self.listeners.address()
    }

    /// Serves until told to drain, then finishes the requests under way and ends the workers.
    pub async fn run(self, mut orders: watch::Receiver<Order>) {
        let Self { listeners, fleet } = self;
        let systemd = Systemd::start();
        systemd.ready();
        let watching = tokio::spawn(systemd.clone().watchdog());
        let unloading = tokio::spawn({
            let fleet = Arc::clone(&fleet);
            async move { fleet.unload_idle().await }
        });
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = accept(listeners, front::router(Arc::clone(&fleet)), &fleet.settings().bounds, &graceful) => {}
            _ = orders.wait_for(|order| *order == Order::Drain) => {}
        }
        systemd.stopping();
        fleet.stop.send_replace(true);
        unloading.abort();
        for one in &fleet.residents.lock().await.here {
            one.app.stop.send_replace(true);
        }
        let drain = fleet.settings().drain;
        if timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("answers were cut off after {} s (--drain-timeout)", drain.as_secs());
        }
        fleet.leave().await;
        watching.abort();
    }
}
