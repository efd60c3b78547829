"""Velocity tasks whose robot files MuJoCo 3 no longer reads, translated in memory.

gymnasium 0.28 ships Hopper and Walker2d in global coordinates and Swimmer with a
collision switch; both spellings are gone since MuJoCo 3. The same robots can be said in
the new language, to the last bit of their dynamics up to rounding.
"""

import xml.etree.ElementTree as ElementTree

from sas_jax.errors import UserError

_ROTATIONS = ("quat", "euler", "axisangle", "xyaxes", "zaxis")
_DIGITS = 12


def port_model(xml: str) -> str:
    """Translates a MuJoCo 2 robot file for MuJoCo 3.

    - ``coordinate="global"``: positions become relative to the body they belong to.
    - ``collision="predefined"``: only listed pairs may touch. Without a list, contacts
      are switched off.

    Raises:
      UserError: the file uses rotated bodies or lists of pairs, which the suite's
        files do not.
    """
    root = ElementTree.fromstring(xml)
    compiler = root.find("compiler")
    if compiler is not None and compiler.attrib.pop("coordinate", "local") == "global":
        for body in root.find("worldbody").findall("body"):
            _make_local(body, (0.0, 0.0, 0.0))
    option = root.find("option")
    if option is not None and option.attrib.pop("collision", "all") == "predefined":
        if root.find("contact") is not None:
            raise UserError("robot file with contact pairs: expected none")
        ElementTree.SubElement(option, "flag", contact="disable")
    return ElementTree.tostring(root, encoding="unicode")


def _make_local(body, parent) -> None:
    """Makes positions in a body, and in those it carries, relative to their owner."""
    if any(name in body.attrib for name in _ROTATIONS):
        raise UserError(
            f"body {body.get('name')!r} is rotated: expected plain positions"
        )
    origin = _numbers(body.get("pos"))
    body.set("pos", _minus(origin, parent))
    for element in body:
        if element.tag == "body":
            _make_local(element, origin)
            continue
        if "pos" in element.attrib:
            element.set("pos", _minus(_numbers(element.get("pos")), origin))
        if "fromto" in element.attrib:
            ends = _numbers(element.get("fromto"))
            element.set("fromto", _minus(ends, (*origin, *origin)))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())


def _minus(left, right) -> str:
    parts = (round(a - b, _DIGITS) for a, b in zip(left, right, strict=True))
    return " ".join(repr(part) for part in parts)


def make_env(env_id: str):
    """Makes a Velocity environment of safety-gymnasium over the translated robot file.

    `safety_gymnasium` must have been imported by
    `suites.safety_gymnasium.import_safety_gymnasium`.
    """
    import gymnasium
    import mujoco
    from gymnasium.envs.registration import load_env_creator
    from safety_gymnasium.wrappers import SafeTimeLimit

    spec = gymnasium.spec(env_id)
    suite_class = load_env_creator(spec.entry_point)

    class Ported(suite_class):
        """The suite's environment; only the robot file is read differently."""

        def _initialize_simulation(self):
            with open(self.fullpath, encoding="utf-8") as file:
                self.model = mujoco.MjModel.from_xml_string(port_model(file.read()))
            self.model.vis.global_.offwidth = self.width
            self.model.vis.global_.offheight = self.height
            self.data = mujoco.MjData(self.model)

    return SafeTimeLimit(Ported(), spec.max_episode_steps)
