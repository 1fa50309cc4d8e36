//! A shelf: what was used lately, up to a number and a weight.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Keeps values by their keys; those that were not asked for the longest make room for others.
#[derive(Debug)]
pub struct Shelf<K, V> {
    most: usize,
    most_weight: usize,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    /// The one used last comes last.
    values: VecDeque<(K, V, usize)>,
    weight: usize,
}

impl<K: PartialEq, V: Clone> Shelf<K, V> {
    /// `most_weight` is in the unit of [`Shelf::put`].
    pub fn new(most: usize, most_weight: usize) -> Self {
        let kept = Kept { values: VecDeque::new(), weight: 0 };
        Shelf { most, most_weight, kept: Mutex::new(kept) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.find(|found, _| found == key)
    }

    /// The one used last of those that fit.
    pub fn find(&self, fits: impl Fn(&K, &V) -> bool) -> Option<V> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.values.iter().rposition(|(key, value, _)| fits(key, value))?;
        let found = kept.values.remove(at)?;
        let value = found.1.clone();
        kept.values.push_back(found);
        Some(value)
    }

    /// What is heavier than all of the shelf may be is not kept.
    pub fn put(&self, key: K, value: V, weight: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.values.iter().position(|(found, _, _)| *found == key)
            && let Some((_, _, before)) = kept.values.remove(at)
        {
            kept.weight -= before;
        }
        if weight > self.most_weight {
            return;
        }
        kept.weight += weight;
        kept.values.push_back((key, value, weight));
        while kept.weight > self.most_weight || kept.values.len() > self.most {
            let Some((_, _, oldest)) = kept.values.pop_front() else { break };
            kept.weight -= oldest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_the_longest_makes_room() {
        let shelf = Shelf::new(2, 100);
        shelf.put('a', 1, 10);
        shelf.put('b', 2, 10);
        assert_eq!(shelf.get(&'a'), Some(1));
        shelf.put('c', 3, 10);
        assert_eq!([shelf.get(&'a'), shelf.get(&'b'), shelf.get(&'c')], [Some(1), None, Some(3)]);
    }

    #[test]
    fn no_more_is_kept_than_the_shelf_carries() {
        let shelf = Shelf::new(9, 100);
        shelf.put('a', 1, 60);
        shelf.put('b', 2, 101);
        assert_eq!([shelf.get(&'a'), shelf.get(&'b')], [Some(1), None]);
        shelf.put('c', 3, 50);
        assert_eq!([shelf.get(&'a'), shelf.get(&'c')], [None, Some(3)]);
        shelf.put('c', 4, 90);
        shelf.put('d', 5, 10);
        assert_eq!([shelf.get(&'c'), shelf.get(&'d')], [Some(4), Some(5)]);
    }

    #[test]
    fn of_those_that_fit_the_one_used_last_is_found() {
        let shelf = Shelf::new(9, 100);
        shelf.put(1, 'a', 1);
        shelf.put(2, 'b', 1);
        assert_eq!(shelf.find(|key, _| *key > 0), Some('b'));
        assert_eq!(shelf.get(&1), Some('a'));
        assert_eq!(shelf.find(|key, _| *key > 0), Some('a'));
    }
}
