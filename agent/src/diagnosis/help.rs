//! The help texts of what is asked about an agent: each stands alone, and fits 80 columns.

pub fn of(command: &str) -> String {
    let text = match command {
        "status" => STATUS,
        "coverage" => COVERAGE,
        "segments" => SEGMENTS,
        #[cfg(feature = "support")]
        "doctor" => DOCTOR,
        #[cfg(feature = "support")]
        "tap" => TAP,
        #[cfg(feature = "support")]
        "bundle" => BUNDLE,
        "closed" => CLOSED,
        _ => LOG,
    };
    format!("{text}{PLACE}")
}

/// What all of them have in common.
const PLACE: &str = "
  --config FILE  the agent's configuration; /etc/gapless/agent.toml otherwise
  --socket PATH  where the agent answers, if the configuration does not tell
  -h, --help     this
";

const STATUS: &str = "\
gapless-agent status: how an agent and its card stand.

usage: gapless-agent status [--json] [--config FILE] [--socket PATH]

  link     to the broker: since when, the last error, over which network
  server   which one spoke last, and how fast it answers
  clock    who vouches for it, and how far it is off
  card     mounted, file system, free space; HANGS where it lets go of nobody
  index    recordings, how far they are read, what each stream holds
  serving  what is being sent, how fast; what was dropped and refused, by reason
  config   the file in force, and what of a change waits for a restart

Where no agent answers, the files tell: clock, card and index. Nothing is
written then.

exit code: 0 the agent answered, 1 it did not, 2 wrong usage or configuration
";

const COVERAGE: &str = "\
gapless-agent coverage: what is held of each stream, drawn and listed.

usage: gapless-agent coverage [--stream ID] [--from TIME] [--to TIME] [--json]

  --stream ID   only this stream
  --from TIME   only what lies behind this: 2026-11-23T10:00:00Z, or with an
                offset, 2026-11-23T11:00:00+01:00
  --to TIME     only what lies before this
  --json        kind \"stream\", \"held\", \"hole\", \"gone\": one a line

It is what the server is told. Times are in UTC. `gone` was held, and has been
overwritten. Where no agent answers, the files are read: a while for a new card.

exit code: 0 done, 1 it cannot be told, 2 wrong usage or configuration
";

const SEGMENTS: &str = "\
gapless-agent segments: the recordings, one by one, as the index knows them.

usage: gapless-agent segments [--stream ID] [--from TIME] [--to TIME]
                              [--limit N] [--json]

  --stream ID   only this stream
  --from TIME   only what lies behind this: 2026-11-23T10:00:00Z
  --to TIME     only what lies before this
  --limit N     no more than so many, oldest first; 200 otherwise
  --json        kind \"segment\", and \"end\" with where to go on: one a line

exit code: 0 done, 1 it cannot be told, 2 wrong usage or configuration
";

#[cfg(feature = "support")]
const DOCTOR: &str = "\
gapless-agent doctor: tries everything that an agent needs, one after the other.

usage: gapless-agent doctor [--json] [--config FILE] [--socket PATH]

  config agent mount space index recordings speed clock
  dns tcp tls login acl server

Each is ok, warn or FAIL, and says what to do; what rests on something that
failed is not tried. Beside a running agent it logs in under a name of its own
and looks for what that agent hears. Where none runs it stands in for it, for a
few seconds: it says that the device is there, and waits for a server's word.

At most 8 MiB of old recordings are read for the speed, past the memory that
the recorder uses. Nothing is written to the card.

  --json        kind \"check\", and \"end\": one a line

exit code: 0 nothing failed, 1 something did, 2 wrong usage
";

#[cfg(feature = "support")]
const TAP: &str = "\
gapless-agent tap: what the running agent hears and says, as it happens.

usage: gapless-agent tap [--json]

  <-  the device hears it: ask_time, ask_locate, ask_open, credit, ...
  ->  the device says it: online, coverage, tell_located, tell_end, data, ...

Each message is decoded from the bytes on the wire; lists are told by their
number. What cannot be understood is shown with the reason. Whoever reads too
slowly is told how many messages were not shown. Ctrl-C ends it.

  --json        kind \"watching\", \"message\", \"missed\": one a line

  gapless-agent tap --json | jq 'select(.message == \"tell_refused\")'

exit code: 0 done, 1 no agent answers, 2 wrong usage
";

#[cfg(feature = "support")]
const BUNDLE: &str = "\
gapless-agent bundle: all that somebody who helps from afar wants to see.

usage: gapless-agent bundle [-o FILE] [--config FILE] [--socket PATH]

  -o FILE       the archive; DEVICE-TIME.tar in this folder otherwise, `-` for
                standard output

In it: the configuration, status, coverage, segments, doctor, the index's check,
the agent's last log lines, versions, mounts and what /proc tells. No recording,
and no secret: passwords and keys are left out wherever they would stand. Look
into it before you send it: tar -xOf FILE | less

  ssh cam-7 gapless-agent bundle -o - > cam-7.tar

exit code: 0 done, 1 it cannot be written, 2 wrong usage or configuration
";

const CLOSED: &str = "\
gapless-agent closed: tell the running agent that a recording was closed.

usage: gapless-agent closed PATH

For recorders that can run a command or write to a socket when they close a
file: the agent looks at it at once, instead of waiting for a hint of the kernel
or for its next sweep. These do the same:

  gapless-agent closed /mnt/card/recordings/10-00-00.mp4
  echo closed /mnt/card/recordings/10-00-00.mp4 |
      nc -U /run/gapless-agent/cam-entrance.socket

PATH has to lie in the folder of a stream, and be named as its layout says; no
link is followed. The agent answers `taken`, or why not.

exit code: 0 taken, 1 refused, or no agent answers, 2 wrong usage
";

const LOG: &str = "\
gapless-agent log: the last lines that the running agent logged.

usage: gapless-agent log [--json]

Some 32 KiB of them are kept in memory: a card is never logged to.

exit code: 0 done, 1 no agent answers, 2 wrong usage
";
