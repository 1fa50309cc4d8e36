//! The help texts of `gapless-agent index`: each stands alone, teaches by example, and fits 80 columns.

pub const INDEX: &str = "\
gapless-agent index: what a card of recordings holds. Works on any machine with
the card in a reader: no configuration, no server, no network.

usage: gapless-agent index scan DIR [options]
       gapless-agent index show DIR [--from TIME] [--to TIME] [options]
       gapless-agent index verify DIR [options]
       gapless-agent index fsck DIR [--repair] [options]

  scan    sum up what is there, and say what is wrong with it
  show    list the time ranges that are held, and the holes between them
  verify  compare every recording with what it was when it was closed
  fsck    compare the index that an agent keeps on the card with the files

How the files are named is found out from the names, and said with how sure
that is. Say it yourself where it cannot be found out:

  --layout NAME      onvif mediamtx ffmpeg majestic thingino raptor frigate yi
                     wyze xiaomi viofo nextbase vantrue
  --template TEXT    or a template of your own: DIR is where it begins
  --camera NAME      where the names of several cameras are in one place
  --time-zone ZONE   of the names: Europe/Berlin, +02:00, UTC, local
  --stream ID        only this stream; with --layout or --template, its name
  --config FILE      or take the streams of an agent's configuration
  --json             a JSON object a line, for programs
  -h, --help         this, or more about one command

Nothing is written to the card, but the file system itself may note that files
were read: mount it read-only where that matters (mount -o ro).

  gapless-agent index scan /media/card
  gapless-agent index show /media/card --from 2026-11-23T10:00:00Z
  gapless-agent index scan /media/card/clips --template '%Y%m%d/%H%M%S.mp4'

exit code: 0 clean, 1 problems were found, 2 wrong usage, or cannot be done
";

pub const SCAN: &str = "\
gapless-agent index scan: sum up what a card holds, and say what is wrong.

usage: gapless-agent index scan DIR [--write-index] [options]

For each stream: how its files are named and how sure that is, how many there
are, from when to when they reach, how much of that time is held, the holes, and
how exact the times are. Then each file that cannot be used as it should, with
the reason: empty, torn (by a power cut), malformed, unreadable, in the future.
The head of each file is read, so that the card's size does not matter.

  --write-index   keep the index on the card, in .gapless: the agent starts
                  faster with it. All else is left alone, recordings always.
  --json          kind \"stream\", \"problem\", \"other\", \"end\": one a line

  gapless-agent index scan /media/card
  gapless-agent index scan /media/card --json | jq 'select(.kind==\"problem\")'

Which files, how they are named: see gapless-agent index --help.

exit code: 0 no problem, 1 problems were found, 2 wrong usage, or cannot be done
";

pub const SHOW: &str = "\
gapless-agent index show: list what a card holds, and the holes in it.

usage: gapless-agent index show DIR [--from TIME] [--to TIME] [--segments]
                                [options]

  --from TIME   only what lies behind this: 2026-11-23T10:00:00Z, or with an
                offset, 2026-11-23T11:00:00+01:00
  --to TIME     only what lies before this
  --segments    list each file instead of the ranges that they make up
  --json        kind \"held\", \"hole\", \"segment\": one a line

Times are in UTC. Holes shorter than 0.2 s are the rounding of file borders.

  gapless-agent index show /media/card --stream main --segments

Which files, how they are named: see gapless-agent index --help.

exit code: 0 done, 2 wrong usage, or cannot be done
";

pub const VERIFY: &str = "\
gapless-agent index verify: are the recordings still what they were?

usage: gapless-agent index verify DIR [options]

Cards fail silently: they take bytes and give back others. An agent that is told
to takes a digest of each recording when its recorder closes it, and keeps it in
.gapless. This reads every recording that has one, from the card and not from
memory, and says which bytes are no longer the same. The whole card is read: at
20 MiB/s, 64 GB take an hour.

  intact     every byte is as it was
  changed    some are not: where, and whether somebody wrote to the file since
  no digest  recorded while no agent took any: nothing can be said

  --config FILE take the streams of an agent's configuration: without it, a
                stream is known by recordings of it that are still there
  --json        kind \"changed\", \"unreadable\", \"stream\", \"end\": one a line

  gapless-agent index verify /media/card

Which files, how they are named: see gapless-agent index --help.

exit code: 0 all is as it was, 1 something is not, 2 wrong usage, or there is
           nothing to compare with
";

pub const FSCK: &str = "\
gapless-agent index fsck: does the index that an agent keeps on the card, in
.gapless, say what the files are?

usage: gapless-agent index fsck DIR [--repair] [options]

  damaged   a file of the index is torn or cannot be read
  stale     a recording is gone or is another one than the index says
  foreign   records of streams or names that are not of this card

The index is a cache: the agent finds out all of this by itself and reads anew
what it has to. So nothing is lost by any of it but the time of a start; the
exception is what the index knows of recordings that were overwritten.

  --repair      write the index anew from the files, without what is damaged,
                stale or foreign; recordings are never written to. Not while an
                agent is running on the card.
  --config FILE take the streams of an agent's configuration: without it, a
                stream counts as foreign whose recordings are all gone
  --json        kind \"damaged\", \"stale\", \"foreign\", \"end\": one a line

  gapless-agent index fsck /media/card
  gapless-agent index fsck /mnt/mmcblk0p1 --config /etc/gapless/agent.toml

Which files, how they are named: see gapless-agent index --help.

exit code: 0 no findings (left), 1 findings, 2 wrong usage, or cannot be done
";
