"""Anti-entropy: nodes tell each other what they hold, and ask for what they lack of it.

A report says what its sender holds of each member (see `announced.py`). Whoever hears it compares:
open runs by their totals, closed ones by a digest a day. Where a digest is another, it asks for
the names of that day's runs, and then for the counts of those that it lacks (see `repairs.py`).

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterable, Mapping

from counter.crdt.ids import member_of, replica_of, run_of
from counter.crdt.tally import Tally
from counter.protocol.announced import Copy
from counter.protocol.backlog import Backlog
from counter.protocol.effects import Effects
from counter.protocol.folding import Folding
from counter.protocol.joining import Joining
from counter.protocol.keys import Keys
from counter.protocol.ledger import Ledger
from counter.protocol.messages import (
    KeysPage,
    KeysRequest,
    MemberReport,
    PreviousMemberReport,
    Question,
    RepairRequest,
    Report,
    ReportRequest,
    RunsPage,
    RunsRequest,
)
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions
from counter.protocol.records import Record, RecordsPage, RecordsRequest
from counter.protocol.repairs import Repairs
from counter.protocol.reports import Reports
from counter.protocol.reverts import Reverts
from counter.protocol.roster import Roster
from counter.protocol.rounds import Rounds
from counter.protocol.runs import Runs


class AntiEntropy:
    """What this node tells of all that it holds, and what it does with the reports of others."""

    def __init__(
        self,
        tally: Tally,
        peers: Peers,
        roster: Roster,
        runs: Runs,
        keys: Keys,
        folding: Folding,
        joining: Joining,
        reports: Reports,
        repairs: Repairs,
        reverts: Reverts,
        backlog: Backlog,
        ledger: Ledger,
        questions: Questions,
        sync_interval: float,
        message_ttl: float,
    ) -> None:
        self._tally = tally
        self._peers = peers
        self._roster = roster
        self._runs = runs
        self._keys = keys
        self._folding = folding
        self._joining = joining
        self._reports = reports
        self._repairs = repairs
        self._reverts = reverts
        self._backlog = backlog
        self._ledger = ledger
        self._questions = questions
        self._rounds = Rounds(sync_interval, message_ttl)
        self._sync_interval = sync_interval
        self._message_ttl = message_ttl
        self._asked_names: dict[tuple[str, str, int], float] = {}
        """When an address was last asked for the names of a member's day."""

    # -- telling

    def report(self, now: float) -> Effects:
        """Tell all what is news, or only that there are none."""
        return Effects(broadcast=[*self._reports.news(self._joining.state, now)])

    def tell_all(self, address: str, now: float, effects: Effects) -> None:
        """Tell one node all that there is to say, and the others what is news in it."""
        if address:
            news, everything = self._reports.everything(self._joining.state, now)
            effects.broadcast.extend(news)
            effects.send.extend((address, part) for part in everything)

    def tell_again(self, asker: str, address: str, now: float, effects: Effects) -> None:
        """Tell everything to one that asks for it or leaves, unless it does so again and again."""
        if self._rounds.may_tell(asker, now):
            self.tell_all(address, now, effects)

    def answer(
        self, asker: str, question: Question, peer: Peer, now: float, effects: Effects
    ) -> None:
        """Answer a question of `peer`, once."""
        if not self._rounds.may_answer(asker, question, now):
            return
        match question:
            case RepairRequest():
                effects.ask(peer, self._repairs.answer(question, self._reports.own))
            case KeysRequest():
                effects.ask(peer, self._keys.answer(question, now))
            case RunsRequest():
                effects.ask(peer, self._reports.names(question))
            case RecordsRequest():
                effects.ask(peer, self._ledger.answer(question))

    def introduce(self, replica: str, address: str, now: float, effects: Effects) -> None:
        """Tell a node everything that is heard for the first time, or again."""
        if self._peers.introduce(replica, now):
            self.tell_all(address, now, effects)

    def greet(self, nodes: Mapping[str, str], now: float, effects: Effects) -> None:
        """Let nodes know of this one that others have named: `{replica: address}`."""
        named = [address for node, address in nodes.items() if self._peers.introduce(node, now)]
        if addresses := dict.fromkeys(filter(None, named)):
            news, greeting = self._reports.greeting(self._joining.state, now)
            effects.broadcast.extend(news)
            effects.send.extend((address, part) for address in addresses for part in greeting)

    # -- hearing

    def heard_report(
        self,
        sender: str,
        report: Report,
        peer: Peer,
        now: float,
        effects: Effects,
        *,
        refused: bool,
    ) -> None:
        """Take a report in; with `refused`, some entries of it could not be read here."""
        peer.state = report.state
        peer.health = report.health or peer.health
        if peer.is_previous:
            for member, previous in report.members.items():
                self._heard_previous(sender, member, previous, peer, effects)
        for member, state in report.states.items():
            self._heard_member(sender, member, state, peer, now, effects)
        for log, positions in report.logs.items():
            peer.said.say_read(log, positions)
            peer.unread = True
        peer.announced.reconsider(self._roster.knows)
        checksum = report.checksum if peer.is_previous else report.said
        if checksum is not None and peer.missed(
            checksum, now, self._sync_interval, refused=refused
        ):
            effects.ask(peer, ReportRequest())
        # A peer that says the very same holds nothing that is missing here.
        if peer.said.checksum != self._reports.said.checksum:
            if peer.compared is None or now - peer.compared >= self._sync_interval / 2:
                peer.compared = now
                self._compare(peer, peer.copies(), now, effects)
            else:
                # Everything is compared again with its next report.
                named = report.members if peer.is_previous else report.states
                self._compare(peer, peer.said.copies(named), now, effects)
        if report.keys is not None:
            peer.keys = report.keys
            for replica, serial in report.keys.items():
                self._joining.told(replica + " keys", serial)
            for ask in self._keys.compare(report.keys, peer, now):
                effects.ask(peer, ask)
        if checksum is not None:
            # It is told in the last part of a report.
            peer.ledger = report.ledger
            effects.ask(peer, self._ledger.compare(peer, now))
        strangers = {
            replica: address
            for replica, address in report.peers.items()
            if replica != self._reports.own and replica not in self._peers
        }
        self.greet(strangers, now, effects)
        if report.state == "leaving":
            self.tell_again(sender, peer.address, now, effects)

    def _heard_previous(
        self,
        sender: str,
        member: str,
        report: PreviousMemberReport,
        peer: Peer,
        effects: Effects,
    ) -> None:
        """A node of the version before tells what it knows of a member."""
        if not self._learn(sender, member, report):
            effects.left_out += 1
            return
        peer.previous.say(member, report)
        if member == member_of(sender) and run_of(sender) in report.runs:
            peer.told = max(report.runs[run_of(sender)][0], peer.told or 0)
        if report.mark > self._folding.mark(member):
            self._backlog.follow(member, report.mark)

    def _heard_member(
        self,
        sender: str,
        member: str,
        report: MemberReport,
        peer: Peer,
        now: float,
        effects: Effects,
    ) -> None:
        """A node tells what it knows of a member."""
        if not peer.announced.has_room(member, report):
            effects.left_out += 1
            return
        if not self._learn(sender, member, report):
            effects.left_out += 1
            if not self._roster.knows(member):
                peer.announced.pass_over(member, report)
            return
        peer.announced.say(member, report)
        self._folding.heard(member, report)
        if report.mark > self._folding.mark(member):
            self._backlog.follow(member, report.mark)
        for run, (total, _, date) in report.runs.items():
            vector = replica_of(member, run)
            self._runs.learn_date(vector, date)
            self._joining.told(vector, total)
            if vector == sender:
                peer.told = max(total, peer.told or 0)
                if total < self._tally.total(sender):
                    effects.ask(peer, self._reverts.tell(sender, peer, now))

    def _learn(self, sender: str, member: str, report: MemberReport | PreviousMemberReport) -> bool:
        """Take in which runs of a member there are; say whether that is possible."""
        latest = max(report.latest, report.mark, *report.runs)
        if not self._roster.believes(sender, member, latest, report.removed):
            return False
        self._roster.learn(member, latest, report.removed)
        return self._roster.knows(member)

    def heard_names(
        self, sender: str, page: RunsPage, peer: Peer, now: float, effects: Effects
    ) -> None:
        """Take in the names of a day's closed runs, if they were asked for."""
        asked = peer.address, page.member, page.day
        believes = self._roster.believes(sender, page.member, *page.runs)
        if asked not in self._asked_names or not believes:
            return
        follows = peer.announced.name(page)
        self._roster.learn(page.member, max(page.runs, default=""))
        for run, (total, _, date) in page.runs.items():
            vector = replica_of(page.member, run)
            if follows and self._joining.told(vector, total):
                self._joining.progress(now)
            self._runs.learn_date(vector, date)
        if page.next and follows:
            self._asked_names[asked] = now
            self._questions.may_ask(peer.address, (page.member, page.day), now)
            effects.ask(peer, RunsRequest(page.member, page.day, page.next))
        else:
            self._questions.answered(peer.address, (page.member, page.day))
            self._compare(peer, peer.copies(), now, effects)

    def heard_keys(
        self, sender: str, page: KeysPage, peer: Peer, now: float, effects: Effects
    ) -> None:
        """Take in a page of keys, if it was asked for or is of the sender's own."""
        asked = self._keys.was_asked(page, peer, now)
        if asked and page.keys and self._joining.wants(page.replica + " keys", page.after):
            self._joining.progress(now)
        if asked or page.replica == sender:
            effects.ask(peer, self._keys.merge(page, peer, now))

    def heard_records(self, records: list[Record], now: float, effects: Effects) -> None:
        """Take in records of operators."""
        changed, left_out = self._ledger.merge(records)
        effects.left_out += left_out
        if changed:
            effects.growths.append(changed)
            self._joining.progress(now)

    def heard_page(self, page: RecordsPage, peer: Peer, now: float, effects: Effects) -> None:
        """Take in a page of records, if it was asked for."""
        if self._ledger.was_asked(peer, now):
            self.heard_records(page.records, now, effects)
            effects.ask(peer, self._ledger.heard(page, peer, now))

    def _compare(
        self, peer: Peer, copies: Iterable[tuple[str, Copy]], now: float, effects: Effects
    ) -> None:
        """Ask for what a peer holds and this node does not."""
        for vector, copy in copies:
            if vector == self._reports.own:
                effects.ask(peer, self._reverts.claimed(copy.total, peer, now))
            else:
                effects.ask(peer, self._repairs.compare(vector, copy.total, peer, now))
                effects.ask(peer, self._repairs.compare_content(vector, copy, peer, now))
        for member, day in self._joining.unnamed(peer):
            at = self._asked_names.get((peer.address, member, day))
            if not peer.address or (at is not None and now - at < self._sync_interval):
                continue
            if self._questions.may_ask(peer.address, (member, day), now):
                self._asked_names[peer.address, member, day] = now
                effects.ask(peer, RunsRequest(member, day, ""))

    def forget(self, now: float) -> None:
        """Forget what was asked so long ago that no answer can come any more."""
        self._rounds.forget(now)
        self._ledger.forget(now)
        self._questions.forget(now)
        for asked, at in list(self._asked_names.items()):
            if now - at > self._message_ttl:
                del self._asked_names[asked]
