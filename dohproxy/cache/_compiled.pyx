# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The ground that every store stands on, compiled: see its twin in `bounded.py`."""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.ref cimport PyObject


cdef class Bounded:
    """As its twin. Where an eviction goes on is a place in the old generation: nothing is ever added to that."""

    cdef public Py_ssize_t limit
    cdef readonly Py_ssize_t octets
    cdef readonly dict _young, _old
    cdef object _octets_of
    cdef Py_ssize_t _slot, _leaving

    def __init__(self, Py_ssize_t limit, octets_of, Py_ssize_t slot=0):
        self.limit, self._octets_of, self._slot = limit, octets_of, slot
        self.clear()

    @classmethod
    def __class_getitem__(cls, _):
        return cls

    def __len__(self):
        return len(self._young) + len(self._old)

    def get(self, key):
        cdef PyObject *found = PyDict_GetItemWithError(self._young, key)
        if found != NULL:
            return <object>found
        if not self._old or (value := self._old.pop(key, None)) is None:
            return None
        self._young[key] = value
        return value

    def put(self, key, value):
        cdef Py_ssize_t octets
        if key in self._young or key in self._old:
            self.discard(key)
        octets = self._size(key, value)
        if octets > self.limit:
            return
        self._young[key] = value
        self.octets += octets
        while self.octets > self.limit:
            self._make_room()
        if not self._old and self.octets * 2 > self.limit:
            self._change_generations()

    def discard(self, key):
        value = self._young.pop(key, None)
        if value is None:
            value = self._old.pop(key, None)
        if value is not None:
            self.octets -= self._size(key, value)

    def clear(self):
        self._young, self._old, self._leaving, self.octets = {}, {}, 0, 0

    cdef Py_ssize_t _size(self, key, value) except -1:
        if PyBytes_CheckExact(value) and PyBytes_CheckExact(key):
            return self._slot + PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(value)
        return self._octets_of(key, value)

    cdef int _make_room(self) except -1:
        cdef PyObject *key = NULL
        cdef PyObject *value = NULL
        if not self._old:
            self._change_generations()
        if PyDict_Next(self._old, &self._leaving, &key, &value):
            gone = <object>key
            self.octets -= self._size(gone, <object>value)
            del self._old[gone]
        return 0

    cdef void _change_generations(self):
        self._old, self._young, self._leaving = self._young, {}, 0
