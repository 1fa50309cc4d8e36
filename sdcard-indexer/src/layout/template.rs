//! The syntax of naming templates: from text to a matcher, and from a matcher to names.
//!
//! Knows digits and literals, no calendar and no time zone. What it writes or matches is always a
//! relative path without `.` and `..`: only literals could hold these, and [`Template::compile`] refuses them.

use super::LayoutError;

/// What may stand in a template, for error messages.
pub(super) const PLACEHOLDERS: &str = "%Y %m %d %H %M %S %f %s %% {counter}";

/// Digits written for `%f`, as MediaMTX and the ONVIF format have them: microseconds.
pub(super) const FRACTION_DIGITS: u32 = 6;

/// Digits of `%f` that are understood: nanoseconds.
const MAX_FRACTION_DIGITS: usize = 9;

/// A number in a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    UnixSeconds,
    Counter,
}

impl Field {
    fn of_letter(letter: char) -> Option<Field> {
        Some(match letter {
            'Y' => Field::Year,
            'm' => Field::Month,
            'd' => Field::Day,
            'H' => Field::Hour,
            'M' => Field::Minute,
            'S' => Field::Second,
            'f' => Field::Fraction,
            's' => Field::UnixSeconds,
            _ => return None,
        })
    }

    fn placeholder(self) -> &'static str {
        match self {
            Field::Year => "%Y",
            Field::Month => "%m",
            Field::Day => "%d",
            Field::Hour => "%H",
            Field::Minute => "%M",
            Field::Second => "%S",
            Field::Fraction => "%f",
            Field::UnixSeconds => "%s",
            Field::Counter => "{counter}",
        }
    }

    /// Digits of the field where their number is fixed.
    fn width(self) -> Option<usize> {
        match self {
            Field::Year => Some(4),
            Field::Month | Field::Day | Field::Hour | Field::Minute | Field::Second => Some(2),
            Field::Fraction | Field::UnixSeconds | Field::Counter => None,
        }
    }
}

/// The numbers of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields {
    pub year: Option<i64>,
    pub month: Option<i64>,
    pub day: Option<i64>,
    pub hour: Option<i64>,
    pub minute: Option<i64>,
    pub second: Option<i64>,
    pub fraction_ns: Option<i64>,
    pub unix_seconds: Option<i64>,
    pub counter: Option<i64>,
    /// What one step of the last fraction digit is worth; zero where there is no fraction.
    pub fraction_step_ns: u32,
}

impl Fields {
    fn get(&self, field: Field) -> Option<i64> {
        match field {
            Field::Year => self.year,
            Field::Month => self.month,
            Field::Day => self.day,
            Field::Hour => self.hour,
            Field::Minute => self.minute,
            Field::Second => self.second,
            Field::Fraction => self.fraction_ns,
            Field::UnixSeconds => self.unix_seconds,
            Field::Counter => self.counter,
        }
    }

    /// A field may stand in a template twice (a date in both directory and file name); `None` where
    /// the two disagree.
    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let slot = match field {
            Field::Year => &mut self.year,
            Field::Month => &mut self.month,
            Field::Day => &mut self.day,
            Field::Hour => &mut self.hour,
            Field::Minute => &mut self.minute,
            Field::Second => &mut self.second,
            Field::Fraction => &mut self.fraction_ns,
            Field::UnixSeconds => &mut self.unix_seconds,
            Field::Counter => &mut self.counter,
        };
        (*slot.get_or_insert(value) == value).then_some(())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Literal(String),
    Field(Field),
}

#[derive(Clone, Debug)]
pub(super) struct Template {
    items: Vec<Item>,
}

impl Template {
    pub(super) fn compile(text: &str) -> Result<Template, LayoutError> {
        let template = Template { items: items(text)? };
        template.check_instant(text)?;
        template.check_digits(text)?;
        template.check_path(text)?;
        Ok(template)
    }

    pub(super) fn holds(&self, field: Field) -> bool {
        self.items.contains(&Item::Field(field))
    }

    /// The numbers in `name`; `None` where it does not match from its first byte to its last.
    pub(super) fn read(&self, name: &str) -> Option<Fields> {
        let mut fields = Fields::default();
        let mut rest = name;
        for item in &self.items {
            rest = match item {
                Item::Literal(literal) => rest.strip_prefix(literal.as_str())?,
                Item::Field(field) => read_field(*field, rest, &mut fields)?,
            };
        }
        rest.is_empty().then_some(fields)
    }

    /// The name with these numbers in it; one that is absent is written as 0.
    pub(super) fn write(&self, fields: &Fields) -> String {
        let mut name = String::new();
        for item in &self.items {
            match item {
                Item::Literal(literal) => name.push_str(literal),
                Item::Field(field) => name.push_str(&written(*field, fields)),
            }
        }
        name
    }

    /// An instant needs `%s`, or a date; a field that is there needs all coarser ones.
    fn check_instant(&self, text: &str) -> Result<(), LayoutError> {
        let require = |needed: Field, why: &'static str| {
            if self.holds(needed) {
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

    /// A number of unknown length must not be followed by a digit: nothing would tell where it ends.
    fn check_digits(&self, text: &str) -> Result<(), LayoutError> {
        for (item, next) in self.items.iter().zip(self.items.iter().skip(1)) {
            let Item::Field(field) = item else { continue };
            let digit_follows = match next {
                Item::Literal(literal) => literal.starts_with(|c: char| c.is_ascii_digit()),
                Item::Field(_) => true,
            };
            if field.width().is_none() && digit_follows {
                let placeholder = field.placeholder();
                return Err(LayoutError::Endless { template: text.to_owned(), placeholder });
            }
        }
        Ok(())
    }

    fn check_path(&self, text: &str) -> Result<(), LayoutError> {
        let sample = self.write(&Fields::default());
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        if sample.split('/').all(plain) && !sample.contains(char::is_control) {
            return Ok(());
        }
        Err(LayoutError::NotAPath { template: text.to_owned() })
    }
}

fn items(text: &str) -> Result<Vec<Item>, LayoutError> {
    let unknown = |placeholder: &str| LayoutError::UnknownPlaceholder {
        template: text.to_owned(),
        placeholder: placeholder.to_owned(),
    };
    let mut items = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (field, length) = match first {
            '%' => {
                let letter = rest.chars().nth(1).ok_or_else(|| unknown("%"))?;
                let placeholder = rest.get(..1 + letter.len_utf8()).unwrap_or(rest);
                let field = Field::of_letter(letter);
                if field.is_none() && letter != '%' {
                    return Err(unknown(placeholder));
                }
                (field, placeholder.len())
            }
            '{' => {
                let placeholder = Field::Counter.placeholder();
                if !rest.starts_with(placeholder) {
                    return Err(unknown(rest.split_inclusive('}').next().unwrap_or(rest)));
                }
                (Some(Field::Counter), placeholder.len())
            }
            other => (None, other.len_utf8()),
        };
        match field {
            Some(field) => {
                if !literal.is_empty() {
                    items.push(Item::Literal(std::mem::take(&mut literal)));
                }
                items.push(Item::Field(field));
            }
            None => literal.push(first),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if !literal.is_empty() {
        items.push(Item::Literal(literal));
    }
    Ok(items)
}

/// Takes the field from the front of `rest`; returns what follows it.
fn read_field<'a>(field: Field, rest: &'a str, fields: &mut Fields) -> Option<&'a str> {
    let signed = field == Field::UnixSeconds && rest.starts_with('-');
    let unsigned = rest.get(usize::from(signed)..)?;
    let digits_there = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let digits = field.width().unwrap_or(digits_there);
    let (number, rest) = (digits <= digits_there).then(|| unsigned.split_at(digits))?;
    let value: i64 = number.parse().ok()?;
    let value = match field {
        Field::Fraction => {
            let absent = MAX_FRACTION_DIGITS.checked_sub(digits)?;
            let step_ns = 10_u32.pow(u32::try_from(absent).ok()?);
            fields.fraction_step_ns = step_ns;
            value * i64::from(step_ns)
        }
        _ if signed => -value,
        _ => value,
    };
    fields.set(field, value)?;
    Some(rest)
}

fn written(field: Field, fields: &Fields) -> String {
    let value = fields.get(field).unwrap_or(0);
    match field {
        Field::Fraction => {
            let digits = FRACTION_DIGITS as usize;
            let step_ns = 10_i64.pow(MAX_FRACTION_DIGITS as u32 - FRACTION_DIGITS);
            format!("{:0digits$}", value / step_ns)
        }
        _ => format!("{value:0width$}", width = field.width().unwrap_or(0)),
    }
}
