//! Model files: named with -m and -mm, or fetched by name with -hf.

use std::path::PathBuf;

use super::flags::HubFlags;
use super::progress::Download;
use crate::error::{Error, Result};
use crate::hub::{self, Repo, Request, Settings};

/// Files that the flags name. A repository named by a flag wins over a file named by the environment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    model: Option<PathBuf>,
    mmproj: Option<PathBuf>,
    repo: Option<String>,
    file: Option<String>,
}

/// Returns the text model and, if one is named or in the repository, the image projector. With -hf, files
/// that are not in the cache yet are downloaded.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if no model is named, and the errors of [`hub::fetch`].
pub(super) fn find(
    model: Option<&PathBuf>,
    mmproj: Option<&PathBuf>,
    flags: &HubFlags,
) -> Result<(PathBuf, Option<PathBuf>)> {
    let variable = |name: &str| std::env::var(name).ok();
    let named = named(model, mmproj, flags, &variable)?;
    let (repo, file) = match (named.model, named.mmproj, named.repo) {
        (Some(model), mmproj, None) => return Ok((model, mmproj)),
        (_, given, Some(repo)) => (
            Request {
                repo: Repo::parse(&repo)?,
                file: named.file,
                mmproj: given.is_none() && !flags.no_mmproj,
            },
            given,
        ),
        (None, _, None) => {
            return Err(Error::usage(
                "no model: give a GGUF file with -m (--model), or a repository with -hf user/repo",
            ));
        }
    };
    let mut settings = Settings::from_variables(&variable)?;
    settings.offline |= flags.offline;
    let mut display = Download::new();
    let found = hub::fetch(&repo, &settings, &mut |step| display.step(step))?;
    drop(display);
    if let Some(line) = &found.remark {
        eprintln!("note: {line}");
    }
    Ok((found.text, file.or(found.mmproj)))
}

fn named(
    model: Option<&PathBuf>,
    mmproj: Option<&PathBuf>,
    flags: &HubFlags,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Named> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut named = Named { mmproj: mmproj.cloned(), ..Named::default() };
    // If a command line has -m and -hf, clap leaves only the last here. The environment comes after both.
    match (&flags.hf_repo, model) {
        (Some(repo), _) => named.repo = Some(repo.clone()),
        (None, Some(model)) => named.model = Some(model.clone()),
        (None, None) => named.repo = set("LLAMA_ARG_HF_REPO"),
    }
    match (&flags.hf_file, &named.repo) {
        (Some(file), Some(_)) => named.file = Some(file.clone()),
        (None, Some(_)) => named.file = set("LLAMA_ARG_HF_FILE"),
        (Some(file), None) => {
            return Err(Error::usage(format!("-hff {file}: name its repository too, with -hf user/repo")));
        }
        (None, None) => {}
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_of_flags_and_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        let flags = |repo: Option<&str>, file: Option<&str>| HubFlags {
            hf_repo: repo.map(Into::into),
            hf_file: file.map(Into::into),
            no_mmproj: false,
            offline: false,
        };
        let cases = [
            (path("t"), flags(None, None), Named { model: path("t"), ..Named::default() }),
            (
                path("t"),
                flags(Some("a/b"), None),
                Named { repo: Some("a/b".into()), file: Some("env.gguf".into()), ..Named::default() },
            ),
            (
                None,
                flags(Some("a/b"), Some("f")),
                Named { repo: Some("a/b".into()), file: Some("f".into()), ..Named::default() },
            ),
            (
                None,
                flags(None, None),
                Named { repo: Some("env/repo".into()), file: Some("env.gguf".into()), ..Named::default() },
            ),
        ];
        let variable = |name: &str| match name {
            "LLAMA_ARG_HF_REPO" => Some("env/repo".to_owned()),
            "LLAMA_ARG_HF_FILE" => Some("env.gguf".to_owned()),
            _ => None,
        };
        for (model, flags, expected) in cases {
            assert_eq!(named(model.as_ref(), None, &flags, &variable).unwrap(), expected, "{flags:?}");
        }
        let error = named(path("t").as_ref(), None, &flags(None, Some("f")), &variable).unwrap_err();
        assert!(error.to_string().contains("-hff f"), "{error}");
    }
}
