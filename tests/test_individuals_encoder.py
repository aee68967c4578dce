"""Discover and match through tools/individuals.py with the real encoder, at small size."""

import os
import sys

import numpy as np
import pytest
from PIL import Image
from test_tools import run_tool

