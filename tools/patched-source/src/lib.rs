//! Makes the llama.cpp tree that illava builds on: the pristine source of a published crate, the
//! patch series on top, and the overlay's whole files beside it.
//!
//! It is a crate of its own so that the build script, the maintainers' scripts and the tests run
//! the same code, and so that it can be tested without compiling any C++.

mod digest;
mod error;
mod series;
mod tree;
mod upstream;

pub use digest::digest;
pub use error::Error;
pub use series::{FilePatch, Patch, Series};
pub use tree::{Tree, Written};
pub use upstream::Upstream;

use std::path::{Path, PathBuf};

/// Where the parts of the patched source stand in a checkout.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Manifest and lock file that pin the published crate.
    pub upstream: PathBuf,
    /// `series`, the patches it names, and `overlay/`.
    pub patches: PathBuf,
}

impl Layout {
    /// The layout of the checkout whose root is `root`.
    pub fn of_checkout(root: &Path) -> Self {
        Self { upstream: root.join("vendor/upstream"), patches: root.join("patches") }
    }

    /// The overlay's directory.
    pub fn overlay(&self) -> PathBuf {
        self.patches.join("overlay")
    }

    /// Every path whose change must make the tree anew. Directories stand for all they hold, so
    /// that a new overlay file counts too.
    ///
    /// # Errors
    /// The series cannot be read.
    pub fn inputs(&self) -> Result<Vec<PathBuf>, Error> {
        let series = Series::read(&self.patches)?;
        let mut inputs = vec![
            self.upstream.join("Cargo.toml"),
            self.upstream.join("Cargo.lock"),
            self.patches.join("series"),
            self.overlay(),
        ];
        inputs.extend(series.patches().iter().map(|p| p.path().to_path_buf()));
        Ok(inputs)
    }

    /// The pristine tree with the series applied and the overlay laid on.
    ///
    /// # Errors
    /// The crate cannot be had, the series does not fit it exactly, or an overlay file stands
    /// where upstream has one.
    pub fn patched(&self, upstream: &Upstream) -> Result<Tree, Error> {
        let mut tree = Tree::pristine(&upstream.source())?;
        Series::read(&self.patches)?.apply(&mut tree)?;
        tree.overlay(&self.overlay())?;
        Ok(tree)
    }
}
