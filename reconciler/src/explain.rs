//! Errors as text for people: what failed, and each cause behind it once.

use std::error::Error;

/// Causes that the text before them already tells are left out.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(cause.trim_end()) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot go out ({source})")]
    struct Out {
        source: Door,
    }

    #[test]
    fn every_cause_is_told_once() {
        let error = Out { source: Door(std::io::Error::other("locked")) };
        assert_eq!(explain(&error), "cannot go out (cannot open the door): locked");
    }
}
