"""Packages of the extra `ctrkit[explain]`, imported when they are first needed."""

from functools import partial

from ctrkit import extras

require = partial(extras.require, extra="explain")
