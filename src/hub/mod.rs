//! Models by name: `user/repo[:quant]` to files in the Hugging Face cache, downloaded if they are not there
//! yet.
//!
//! The cache has the layout of the `huggingface_hub` package (blobs, snapshots, refs, locks). Either program
//! finds the files of the other. One request lists the repository, and [`pick`] chooses among its files.
//! `download` then fetches each with resume, checksum and lock.

mod cache;
mod client;
mod download;
mod listing;
mod name;
pub mod pick;
mod settings;

use std::path::PathBuf;

pub use name::Repo;
pub use settings::{Patience, Settings, Token};

use crate::error::{Error, Field, Kind, Result};
use cache::Cache;
use client::Client;
use listing::Listed;
use pick::{Picked, Wanted};

/// Files that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub repo: Repo,
    /// Path of the text model in the repository, instead of a search by quantisation.
    pub file: Option<String>,
    /// Whether the image projector is wanted too.
    pub mmproj: bool,
}

/// Paths of the files, ready to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Text model. If it has several shards, this is the first, with the others beside it.
    pub text: PathBuf,
    pub mmproj: Option<PathBuf>,
    /// Note for the person: one line or none.
    pub remark: Option<String>,
}

/// State of a download, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Another process downloads this file, and this one waits for it.
    Waiting { file: &'a str },
    /// A file begins; sizes in bytes.
    Start { file: &'a str, size: u64 },
    /// Bytes of the file that are there.
    At(u64),
    /// The connection broke after so many bytes, and a new one continues.
    Again(u64),
    /// The file is complete and its checksum right.
    Done,
}

/// Finds the files of `request` in the cache or on the hub.
///
/// # Errors
/// [`Kind::File`] naming the repository, the file and what to do.
pub fn fetch(request: &Request, settings: &Settings, watch: &mut dyn FnMut(Step<'_>)) -> Result<Found> {
    let cache = Cache::new(&settings.cache, &request.repo);
    if settings.offline {
        return from_cache(request, &cache, "offline, and not in the cache; run once online", None);
    }
    let client = Client::new(settings, &request.repo)?;
    let listed = match client.list() {
        Ok(listed) => listed,
        Err(failure) if failure.unreachable => {
            let remark = format!("{}; using the files in the cache", failure.error);
            return from_cache(request, &cache, &failure.error.to_string(), Some(remark));
        }
        Err(failure) => return Err(failure.error),
    };
    let picked = choose(request, &listed.names(), "the repository")?;
    let files: Vec<&listing::File> =
        picked.text.iter().chain(&picked.mmproj).map(|&i| &listed.files[i]).collect();
    cache.room_for(&files)?;
    for file in &files {
        download::download(&client, &cache, file, &listed.commit, settings.patience, watch)?;
        cache.link(&listed.commit, file)?;
    }
    cache.write_ref(&listed.commit)?;
    Ok(found(&picked, &cache, &listed, None))
}

/// A GGUF file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub repo: Repo,
    /// Relative to the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// The GGUF files of all repositories in the cache, each at the commit last seen, by name.
///
/// # Errors
/// [`Kind::File`] for a folder that cannot be read.
pub fn cached(settings: &Settings) -> Result<Vec<Cached>> {
    let mut found = Vec::new();
    for repo in cache::repositories(&settings.cache)? {
        let listed = Cache::new(&settings.cache, &repo).list()?;
        let files = listed.into_iter().flat_map(|listed| listed.files);
        let models = files.filter(|file| file.path.to_ascii_lowercase().ends_with(".gguf"));
        found.extend(models.map(|file| Cached { repo: repo.clone(), path: file.path, size: file.size }));
    }
    Ok(found)
}

fn from_cache(request: &Request, cache: &Cache, missing: &str, remark: Option<String>) -> Result<Found> {
    let Some(listed) = cache.list()? else {
        return Err(Error::new(
            Kind::File,
            match &remark {
                None => format!("{} {}: {missing}", Field::Repository, request.repo),
                Some(_) => missing.to_owned(),
            },
        ));
    };
    let picked = choose(request, &listed.names(), "the cache")?;
    Ok(found(&picked, cache, &listed, remark))
}

fn choose(request: &Request, names: &[&str], place: &str) -> Result<Picked> {
    let wanted = Wanted {
        quant: request.repo.quant.as_deref(),
        file: request.file.as_deref(),
        mmproj: request.mmproj,
    };
    pick::pick(names, wanted).map_err(|reason| {
        Error::new(Kind::File, format!("{} {}: {place} {reason}", Field::Repository, request.repo))
    })
}

fn found(picked: &Picked, cache: &Cache, listed: &Listed, remark: Option<String>) -> Found {
    let path = |i: usize| cache.snapshot(&listed.commit).join(&listed.files[i].path);
    Found { text: path(picked.text[0]), mmproj: picked.mmproj.map(path), remark }
}
