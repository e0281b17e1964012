//! Where a run's report is kept. That it can be is found out before the run: nobody likes to learn after ten minutes that a
//! directory was mistyped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{html, report::Report};

/// A directory that has been written to.
#[derive(Debug)]
pub(crate) struct Archive(PathBuf);

impl Archive {
    /// Makes the directory if it is not there, and tries to write into it.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let refused =
            || format!("--report: can't write into {}: give another directory", directory.display());
        fs::create_dir_all(directory).with_context(refused)?;
        let trial = directory.join(".haul-loadtest");
        fs::write(&trial, "").with_context(refused)?;
        fs::remove_file(&trial).with_context(refused)?;
        Ok(Self(directory.to_owned()))
    }

    /// Keeps a report: here, or, if this place is gone meanwhile or full, among the system's temporary files. Fails with
    /// where it was to be, and says where it is.
    pub(crate) fn keep(&self, report: &Report) -> Result<()> {
        let Err(error) = write(&self.0, report) else { return Ok(()) };
        let elsewhere = std::env::temp_dir().join(format!("haul-loadtest-{}", std::process::id()));
        let kept = match write(&elsewhere, report) {
            Ok(()) => format!("the report is in {} instead", elsewhere.display()),
            Err(_) => "the report is lost".to_owned(),
        };
        Err(error.context(kept))
    }
}

/// Both files, each whole or not at all: a report of before is not half overwritten.
fn write(directory: &Path, report: &Report) -> Result<()> {
    let write = |name: &str, text: String| {
        let (path, whole) = (directory.join(format!(".{name}")), directory.join(name));
        let refused = || format!("can't write {}", whole.display());
        fs::write(&path, text).with_context(refused)?;
        fs::rename(&path, &whole).with_context(refused)
    };
    fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    write("report.json", serde_json::to_string_pretty(report)?)?;
    write("report.html", html::page(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("haul-archive-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_place_that_can_not_be_written_to_is_refused_at_once() {
        let scratch = Scratch::new("refused");
        let file = scratch.0.join("file");
        fs::write(&file, "mine").unwrap();
        for nowhere in [file.clone(), file.join("below"), PathBuf::from("/proc/nowhere")] {
            let error = format!("{:#}", Archive::open(&nowhere).unwrap_err());
            assert!(error.contains("give another directory"), "{error}");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    }

    #[test]
    fn a_report_is_kept_whole_and_elsewhere_if_its_place_is_gone() {
        let scratch = Scratch::new("kept");
        let place = scratch.0.join("a/b");
        let archive = Archive::open(&place).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "the trial leaves nothing");
        let report = crate::report::tests::example();
        archive.keep(&report).unwrap();
        assert_eq!(Report::read(&place.join("report.json")).unwrap().scenario, report.scenario);
        assert!(fs::read_to_string(place.join("report.html")).unwrap().contains("FAILED"));

        fs::remove_dir_all(scratch.0.join("a")).unwrap();
        fs::write(scratch.0.join("a"), "in the way").unwrap();
        let error = format!("{:#}", archive.keep(&report).unwrap_err());
        let elsewhere = std::env::temp_dir().join(format!("haul-loadtest-{}", std::process::id()));
        assert!(error.contains(&format!("is in {} instead", elsewhere.display())), "{error}");
        assert!(Report::read(&elsewhere.join("report.json")).is_ok());
        fs::remove_dir_all(elsewhere).unwrap();
    }
}
