//! Lists that can be long: a page at a time, and where the next one goes on.
//!
//! Whoever follows `next` to its end has seen everything that was there all along; what comes or goes meanwhile is
//! seen or not, but nothing is seen twice.

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Kind, Problem};

/// One page of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// For `after`, where there is more.
    #[schema(required)]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Of one more item than fit, where there is one; `cursor` says where the last that fits stands.
    pub fn of(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Page<T> {
        let is_cut = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| is_cut).map(cursor);
        Page { items, next }
    }

    pub fn map<U>(self, of: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(of).collect(), next: self.next }
    }
}

/// How many items a page may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub default: usize,
    pub most: usize,
}

impl Limits {
    pub fn choose(self, asked: Option<usize>) -> Result<usize, Problem> {
        match asked.unwrap_or(self.default) {
            limit if (1..=self.most).contains(&limit) => Ok(limit),
            limit => {
                let detail = format!("limit: {limit} is not between 1 and {}", self.most);
                Err(Problem::new(Kind::Invalid, detail))
            }
        }
    }
}

/// The range that is asked about; all of time where it is left open.
pub fn window(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<TimeRange, Problem> {
    range(from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX))
}

/// The same, where neither end may be left out.
pub fn range(from: Timestamp, to: Timestamp) -> Result<TimeRange, Problem> {
    let backward = || Problem::new(Kind::Invalid, format!("from {from} lies after to {to}"));
    TimeRange::new(from, to).ok_or_else(backward)
}

/// What of a range lies behind the last page.
pub fn behind(range: TimeRange, after: Option<Timestamp>) -> TimeRange {
    let start = after.map_or(range.start(), |after| after.max(range.start()));
    TimeRange::new(start.min(range.end()), range.end()).unwrap_or(range)
}

/// The same where the newest comes first.
pub fn before(range: TimeRange, after: Option<Timestamp>) -> TimeRange {
    let end = after.map_or(range.end(), |after| after.min(range.end()));
    TimeRange::new(range.start(), end.max(range.start())).unwrap_or(range)
}

/// A cursor that nobody was given.
pub fn strange(after: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("after: `{after}` is not what `next` said"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, seconds};

    #[test]
    fn a_page_says_where_to_go_on_only_where_there_is_more() {
        let page = |items: &[i32]| Page::of(items.to_vec(), 2, ToString::to_string);
        assert_eq!(page(&[1, 2, 3]), Page { items: vec![1, 2], next: Some("2".into()) });
        assert_eq!(page(&[1, 2]), Page { items: vec![1, 2], next: None });
        assert_eq!(page(&[]), Page { items: vec![], next: None });
    }

    #[test]
    fn a_limit_is_refused_by_name_where_it_is_none() {
        let limits = Limits { default: 50, most: 100 };
        assert_eq!(limits.choose(None).unwrap(), 50);
        assert_eq!(limits.choose(Some(100)).unwrap(), 100);
        for wrong in [0, 101] {
            assert!(limits.choose(Some(wrong)).unwrap_err().detail.contains("limit"));
        }
    }

    #[test]
    fn what_lies_behind_a_page_never_leaves_the_range() {
        let range = seconds(10, 20);
        assert_eq!(behind(range, None), range);
        assert_eq!(behind(range, Some(at(5))), range);
        assert_eq!(behind(range, Some(at(15))), seconds(15, 20));
        assert!(behind(range, Some(at(25))).is_empty());
        assert_eq!(before(range, Some(at(15))), seconds(10, 15));
        assert_eq!(before(range, Some(at(25))), range);
        assert!(before(range, Some(at(5))).is_empty());
        assert!(window(Some(at(2)), Some(at(1))).is_err());
    }
}
