//! The syntax of naming templates: from text to a matcher, and from a matcher to names.
//!
//! Knows digits and letters, no calendar and no time zone. A name is matched in one pass from left to
//! right that never goes back: each item takes the most it can, and [`Template::compile`] refuses a
//! template in which something else could have been meant. What matches or is written is always a
//! relative path without `.` and `..`.

use super::LayoutError;
use super::field::{Field, Fields, leading_digits};

/// What may stand in a template, for error messages.
pub(super) const PLACEHOLDERS: &str =
    "%Y %y %m %d %F %H %M %S %f %s %% ? {counter} {digits} {camera} {this|that}";

#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    /// Letters match in either case.
    Literal(String),
    Field(Field),
    /// A number that is not looked at.
    Digits,
    /// A letter or digit that is not looked at.
    Character,
    /// Any camera; only where it is to be found out which there are.
    AnyCamera,
    /// The first is what is written.
    OneOf(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Template {
    items: Vec<Item>,
    /// Of the fields that tell a time.
    pub(super) finest: Field,
    /// What matches may differ in more than what becomes of fields.
    chooses: bool,
}

impl Template {
    /// `camera` is what stands for `{camera}`.
    pub(super) fn compile(text: &str, camera: Option<&str>) -> Result<Template, LayoutError> {
        let mut template = Template::of_any_camera(text)?;
        for item in &mut template.items {
            if *item == Item::AnyCamera {
                let camera = camera.map(str::to_owned);
                let template = || text.to_owned();
                let none = || LayoutError::WhichCamera { template: template() };
                *item = Item::Literal(camera.ok_or_else(none)?);
            }
        }
        template.check_instant(text)?;
        template.check_ends(text)?;
        template.check_path(text)?;
        Ok(template)
    }

    /// Matches the names of all cameras.
    pub(super) fn of_any_camera(text: &str) -> Result<Template, LayoutError> {
        let items = items(text)?;
        let there = |field: &Field| items.contains(&Item::Field(*field));
        let finest = Field::FINEST_FIRST.into_iter().find(there).unwrap_or(Field::Day);
        let chooses = items.iter().any(|item| matches!(item, Item::OneOf(_)));
        Ok(Template { items, finest, chooses })
    }

    fn holds(&self, field: Field) -> bool {
        self.items.contains(&Item::Field(field))
    }

    /// The numbers in `name`; `None` where it does not match from its first byte to its last.
    pub(super) fn read(&self, name: &[u8]) -> Option<Fields> {
        self.read_camera(name).map(|(fields, _)| fields)
    }

    /// As [`Template::read`], and the camera where the template takes any.
    pub(super) fn read_camera<'a>(&self, name: &'a [u8]) -> Option<(Fields, Option<&'a [u8]>)> {
        let mut fields = Fields::default();
        let mut camera = None;
        let mut rest = name;
        for item in &self.items {
            rest = match item {
                Item::Literal(text) => strip(rest, text)?,
                Item::Field(field) => field.read(rest, &mut fields)?,
                Item::Digits => split_at_least_one(rest, leading_digits(rest))?.1,
                Item::Character => split_at_least_one(rest, leading_letters(rest).min(1))?.1,
                Item::AnyCamera => {
                    let (found, rest) = split_at_least_one(rest, leading_camera(rest))?;
                    camera = Some(found);
                    rest
                }
                Item::OneOf(texts) => {
                    let fitting = texts.iter().filter_map(|text| strip(rest, text));
                    fitting.min_by_key(|left| left.len())?
                }
            };
        }
        let plain = !self.chooses || is_plain_path(name);
        (rest.is_empty() && plain).then_some((fields, camera))
    }

    /// Adds the name with these numbers in it; one that is absent is written as 0.
    pub(super) fn write(&self, fields: &Fields, name: &mut Vec<u8>) {
        for item in &self.items {
            match item {
                Item::Literal(text) => name.extend_from_slice(text.as_bytes()),
                Item::Field(field) => field.write(fields, name),
                Item::Digits | Item::Character | Item::AnyCamera => name.push(b'0'),
                Item::OneOf(texts) => {
                    name.extend_from_slice(texts.first().map_or(b"", |text| text.as_bytes()));
                }
            }
        }
    }

    /// An instant needs `%s`, or a date; a field that is there needs all coarser ones.
    fn check_instant(&self, text: &str) -> Result<(), LayoutError> {
        let require = |needed: Field, why: &'static str| {
            if self.holds(needed) || needed == Field::Year && self.holds(Field::ShortYear) {
                return Ok(());
            }
            let missing = needed.placeholder();
            Err(LayoutError::Incomplete { template: text.to_owned(), missing, why })
        };
        if self.holds(Field::UnixSeconds) {
            return Ok(());
        }
        for date in [Field::Year, Field::Month, Field::Day] {
            require(date, "a name must tell its date, or Unix seconds by %s")?;
        }
        let chain = [Field::Hour, Field::Minute, Field::Second, Field::Fraction];
        for (coarse, fine) in chain.into_iter().zip(chain.into_iter().skip(1)) {
            if self.holds(fine) {
                require(coarse, "a finer field is there")?;
            }
        }
        Ok(())
    }

    /// It must be plain where an item ends: what follows a number of unknown length cannot begin with a
    /// digit, and what follows a choice cannot look like the rest of a longer choice.
    fn check_ends(&self, text: &str) -> Result<(), LayoutError> {
        for (position, item) in self.items.iter().enumerate() {
            let following = self.items.get(position + 1..).unwrap_or_default();
            let ends = match item {
                Item::Field(field) if field.width().is_none() => {
                    !may_begin(following, |first| first.is_ascii_digit())
                }
                Item::Digits => !may_begin(following, |first| first.is_ascii_digit()),
                Item::OneOf(texts) => texts.iter().all(|short| {
                    let longer = texts.iter().filter_map(|long| {
                        strip(long.as_bytes(), short)?;
                        long.get(short.len()..)?.chars().next()
                    });
                    longer.into_iter().all(|next| {
                        !may_begin(following, |first| first.eq_ignore_ascii_case(&next))
                    })
                }),
                _ => true,
            };
            if !ends {
                let placeholder = item.placeholder();
                return Err(LayoutError::Endless { template: text.to_owned(), placeholder });
            }
        }
        Ok(())
    }

    fn check_path(&self, text: &str) -> Result<(), LayoutError> {
        let mut sample = Vec::new();
        self.write(&Fields::default(), &mut sample);
        if is_plain_path(&sample) && !String::from_utf8_lossy(&sample).contains(char::is_control) {
            return Ok(());
        }
        Err(LayoutError::NotAPath { template: text.to_owned() })
    }
}

impl Item {
    fn placeholder(&self) -> String {
        match self {
            Item::Literal(text) => text.clone(),
            Item::Field(field) => field.placeholder().to_owned(),
            Item::Digits => "{digits}".to_owned(),
            Item::Character => "?".to_owned(),
            Item::AnyCamera => "{camera}".to_owned(),
            Item::OneOf(texts) => format!("{{{}}}", texts.join("|")),
        }
    }
}

/// Whether a text that matches `items` can begin with such a character.
fn may_begin(items: &[Item], wanted: impl Fn(char) -> bool) -> bool {
    let mut digits = '0'..='9';
    let mut letters = ('0'..='9').chain('A'..='Z').chain('a'..='z');
    for item in items {
        return match item {
            Item::Literal(text) => text.chars().next().is_some_and(&wanted),
            Item::Field(Field::UnixSeconds) => wanted('-') || digits.any(&wanted),
            Item::Field(_) | Item::Digits => digits.any(&wanted),
            Item::Character => letters.any(&wanted),
            Item::AnyCamera => wanted('_') || wanted('-') || letters.any(&wanted),
            Item::OneOf(texts)
                if texts.iter().filter_map(|text| text.chars().next()).any(&wanted) =>
            {
                true
            }
            Item::OneOf(texts) if texts.iter().any(String::is_empty) => continue,
            Item::OneOf(_) => false,
        };
    }
    false
}

fn is_plain_path(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// What follows `text` in `rest`; FAT keeps no case, or a PC changes it.
fn strip<'a>(rest: &'a [u8], text: &str) -> Option<&'a [u8]> {
    let (front, rest) = rest.split_at_checked(text.len())?;
    front.eq_ignore_ascii_case(text.as_bytes()).then_some(rest)
}

fn split_at_least_one(text: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    (length > 0).then(|| text.split_at_checked(length))?
}

fn leading_letters(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

fn leading_camera(text: &[u8]) -> usize {
    let of_an_id = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.iter().take_while(of_an_id).count()
}

fn items(text: &str) -> Result<Vec<Item>, LayoutError> {
    let mut items = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '%' => rest.chars().nth(1).map_or(1, |letter| 1 + letter.len_utf8()),
            '{' => rest.find('}').map_or(rest.len(), |end| end + 1),
            _ => first.len_utf8(),
        };
        let (placeholder, left) = rest.split_at(length);
        rest = left;
        match (first, placeholder) {
            ('%', "%%") => push_literal(&mut items, "%"),
            ('%', "%F") => {
                items.push(Item::Field(Field::Year));
                push_literal(&mut items, "-");
                items.push(Item::Field(Field::Month));
                push_literal(&mut items, "-");
                items.push(Item::Field(Field::Day));
            }
            ('%' | '{' | '?', _) => items.push(item(placeholder).ok_or_else(|| {
                let (template, placeholder) = (text.to_owned(), placeholder.to_owned());
                LayoutError::UnknownPlaceholder { template, placeholder }
            })?),
            (_, literal) => push_literal(&mut items, literal),
        }
    }
    Ok(items)
}

fn push_literal(items: &mut Vec<Item>, text: &str) {
    match items.last_mut() {
        Some(Item::Literal(literal)) => literal.push_str(text),
        _ => items.push(Item::Literal(text.to_owned())),
    }
}

fn item(placeholder: &str) -> Option<Item> {
    match placeholder {
        "?" => return Some(Item::Character),
        "{counter}" => return Some(Item::Field(Field::Counter)),
        "{digits}" => return Some(Item::Digits),
        "{camera}" => return Some(Item::AnyCamera),
        _ => {}
    }
    if let Some(letter) = placeholder.strip_prefix('%') {
        return letter.chars().next().and_then(Field::of_letter).map(Item::Field);
    }
    let choice = placeholder.strip_prefix('{')?.strip_suffix('}')?;
    let plain = !choice.contains(['%', '{', '?']);
    (plain && choice.contains('|'))
        .then(|| Item::OneOf(choice.split('|').map(str::to_owned).collect()))
}
