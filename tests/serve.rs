//! The HTTP process in front of a scripted worker: every endpoint, hostile requests, and what
//! happens to clients when a worker dies, hangs or is told to go.

#[path = "serve/clip.rs"]
mod clip;
#[path = "serve/crowd.rs"]
mod crowd;
#[path = "serve/dialects.rs"]
mod dialects;
#[path = "serve/endpoints.rs"]
mod endpoints;
#[path = "serve/fleet.rs"]
mod fleet;
#[path = "serve/hostile.rs"]
mod hostile;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/inprocess.rs"]
mod inprocess;
#[path = "serve/life.rs"]
mod life;
#[path = "serve/peer.rs"]
mod peer;
#[path = "serve/slot_endpoints.rs"]
mod slot_endpoints;
#[path = "serve/thoughts.rs"]
mod thoughts;
#[path = "serve/videos.rs"]
mod videos;
