//! `illava pull` and `illava list`: models in the Hugging Face cache, fetched without a question and listed.

use serde::Serialize;

use super::flags::{HubFlags, ListFlags, PullFlags};
use super::{model_files, output};
use crate::error::Result;
use crate::hub::{self, Settings};
use crate::report::quantity;

/// Prints the path of each file, text model first.
///
/// # Errors
/// As [`hub::fetch`].
pub(super) fn pull(flags: &PullFlags) -> Result<()> {
    let hub = HubFlags {
        hf_repo: Some(flags.repo.clone()),
        hf_file: flags.hf_file.clone(),
        no_mmproj: flags.no_mmproj,
        offline: false,
    };
    let (text, projector) = model_files::find(None, None, &hub)?;
    for path in [Some(text), projector].iter().flatten() {
        output::say(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Listed {
    repo: String,
    file: String,
    bytes: u64,
}

/// Prints a line for each GGUF file in the cache.
///
/// # Errors
/// [`crate::error::Kind::File`] for a cache that cannot be read.
pub(super) fn list(flags: &ListFlags) -> Result<()> {
    let settings = Settings::from_variables(&|name| std::env::var(name).ok())?;
    let files: Vec<Listed> = hub::cached(&settings)?
        .into_iter()
        .map(|file| Listed { repo: file.repo.to_string(), file: file.path, bytes: file.size })
        .collect();
    if flags.json {
        return output::write_json("-".as_ref(), &files);
    }
    if files.is_empty() {
        let folder = settings.cache.display();
        eprintln!("note: no models in {folder}; illava pull user/repo fetches one");
    }
    let width = |of: fn(&Listed) -> &String| files.iter().map(|file| of(file).len()).max().unwrap_or(0);
    let (repos, names) = (width(|file| &file.repo), width(|file| &file.file));
    for Listed { repo, file, bytes } in &files {
        #[allow(clippy::cast_precision_loss)]
        let size = quantity(*bytes as f64);
        output::say(&format!("{repo:repos$}  {file:names$}  {size:>9}\n"))?;
    }
    Ok(())
}
